"""The text of a program for a TPU, shortened."""

# How libtpu writes collectives: one in pieces that share a chain_id, one as a fusion, one that the
# host sends to another slice. The loop's counter starts at 1, as its first trip is outside.
PROGRAM = """HloModule step, is_scheduled=true

%body (p: (s32[], bf16[2,8])) -> (s32[], bf16[2,8]) {
  %p = (s32[]{:T(128)}, bf16[2,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %x = bf16[2,8]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%p), index=1
  %start = bf16[8,8]{1,0:T(8,128)(2,1)} fusion(%x), kind=kCustom, calls=%piece.1
  %done = bf16[8,8]{1,0:T(8,128)(2,1)} fusion(%x), kind=kCustom, calls=%piece.2
  %kernel = bf16[2,8]{1,0} custom-call(%x), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"xprof_metadata":"{\"block_q\": 128}"
}}, metadata={op_name="splash"}
  %scattered = bf16[2,8]{1,0:T(8,128)(2,1)} fusion(%done), kind=kCustom, calls=%all-reduce-scatter.1
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %out = (s32[]{:T(128)}, bf16[2,8]{1,0:T(8,128)(2,1)}) tuple(%i, %scattered)
}

%piece.1 (a: bf16[2,8]) -> bf16[8,8] {
  %a = bf16[2,8]{1,0} parameter(0)
  %g = bf16[8,8]{1,0} all-gather(%a), channel_id=1, replica_groups=mesh['x'=2,'y'=4] {'y'}, dimensions={0}, frontend_attributes={chain_id="7"}
  ROOT %go = (bf16[2,8]{1,0}, bf16[8,8]{1,0}, u32[]{:S(2)}) custom-call(%g), custom_call_target="AsyncCollectiveStart"
}

%piece.2 (b: bf16[2,8]) -> bf16[8,8] {
  %b = bf16[2,8]{1,0} parameter(0)
  ROOT %h = bf16[8,8]{1,0} all-gather(%b), channel_id=1, replica_groups=mesh['x'=2,'y'=4] {'y'}, dimensions={0}, frontend_attributes={chain_id="7"}
}

%all-reduce-scatter.1 (c: bf16[8,8]) -> bf16[2,8] {
  %c = bf16[8,8]{1,0} parameter(0)
  %r = bf16[8,8]{1,0} all-reduce(%c), channel_id=2, replica_groups=[2,4]<=[8], to_apply=%add
  ROOT %d = bf16[2,8]{1,0} slice(%r), slice={[0:2], [0:8]}
}

%condition (q: (s32[], bf16[2,8])) -> pred[] {
  %q = (s32[]{:T(128)}, bf16[2,8]{1,0}) parameter(0)
  %limit = s32[]{:T(128)} constant(5)
  %j = s32[]{:T(128)} get-tuple-element(%q), index=0
  ROOT %lt = pred[]{:T(512)} compare(%j, %limit), direction=LT
}

ENTRY %main (w: bf16[2,8]) -> bf16[2,8] {
  %w = bf16[2,8]{1,0:T(8,128)(2,1)} parameter(0)
  %one = s32[]{:T(128)} constant(1)
  %begin = s32[]{:T(128)} copy(%one)
  %carried = (s32[]{:T(128)}, bf16[2,8]{1,0:T(8,128)(2,1)}) tuple(%begin, %w)
  %loop = (s32[]{:T(128)}, bf16[2,8]{1,0:T(8,128)(2,1)}) while(%carried), condition=%condition, body=%body
  %y = bf16[2,8]{1,0:T(8,128)(2,1)} get-tuple-element(%loop), index=1
  %token = token[] after-all()
  %send.1 = (bf16[2,8]{1,0:T(8,128)(2,1)}, u32[], token[]) send(%y, %token), channel_id=3, is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  ROOT %z = bf16[2,8]{1,0:T(8,128)(2,1)} collective-permute(%y), channel_id=4, source_target_pairs={{0,4},{4,0}}, metadata={op_name="jit(step)/here"}
}
"""  # noqa: E501
