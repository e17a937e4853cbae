"""Bytes of kernels that are neither products nor attention, counted by hand in a small program."""

from t5x_style.planning import hlo, kernel_traffic

# A loop of three trips over rows of a stack of three; each array of [4, 8] in bf16 has 64 bytes.
PROGRAM = """HloModule step, is_scheduled=true

%cut (p: bf16[3,4,8], q: s32[], r: bf16[4,8]) -> bf16[4,8] {
  %p = bf16[3,4,8]{2,1,0} parameter(0)
  %q = s32[] parameter(1)
  %r = bf16[4,8]{1,0} parameter(2)
  %zero = s32[] constant(0)
  %row = bf16[1,4,8]{2,1,0} dynamic-slice(%p, %q, %zero, %zero), dynamic_slice_sizes={1,4,8}
  %flat = bf16[4,8]{1,0} bitcast(%row)
  ROOT %sum = bf16[4,8]{1,0} add(%flat, %r)
}

%keep (p.1: bf16[3,4,8], q.1: s32[], r.1: bf16[4,8]) -> bf16[3,4,8] {
  %p.1 = bf16[3,4,8]{2,1,0} parameter(0)
  %q.1 = s32[] parameter(1)
  %r.1 = bf16[4,8]{1,0} parameter(2)
  %zero.1 = s32[] constant(0)
  %part = bf16[1,4,8]{2,1,0} bitcast(%r.1)
  ROOT %stack = bf16[3,4,8]{2,1,0} dynamic-update-slice(%p.1, %part, %q.1, %zero.1, %zero.1)
}

%product (a: bf16[4,8], b: bf16[4,8]) -> bf16[4,4] {
  %a = bf16[4,8]{1,0} parameter(0)
  %b = bf16[4,8]{1,0} parameter(1)
  ROOT %dot = bf16[4,4]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={1}
}

%body (s: (s32[], bf16[3,4,8], bf16[4,8])) -> (s32[], bf16[3,4,8], bf16[4,8]) {
  %s = (s32[], bf16[3,4,8]{2,1,0}, bf16[4,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %stacked = bf16[3,4,8]{2,1,0} get-tuple-element(%s), index=1
  %x = bf16[4,8]{1,0} get-tuple-element(%s), index=2
  %y = bf16[4,8]{1,0} fusion(%stacked, %i, %x), kind=kLoop, calls=%cut
  %kept = bf16[3,4,8]{2,1,0} fusion(%stacked, %i, %y), kind=kLoop, calls=%keep
  %m = bf16[4,4]{1,0} fusion(%y, %y), kind=kCustom, calls=%product
  %ar = bf16[4,8]{1,0} all-reduce(%y), replica_groups={{0,1}}, to_apply=%add
  ROOT %out = (s32[], bf16[3,4,8]{2,1,0}, bf16[4,8]{1,0}) tuple(%i, %kept, %y)
}

%condition (t: (s32[], bf16[3,4,8], bf16[4,8])) -> pred[] {
  %t = (s32[], bf16[3,4,8]{2,1,0}, bf16[4,8]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%t), index=0
  %limit = s32[] constant(3)
  ROOT %lt = pred[] compare(%j, %limit), direction=LT
}

ENTRY %main (w: bf16[3,4,8], v: bf16[4,8]) -> bf16[4,8] {
  %w = bf16[3,4,8]{2,1,0} parameter(0)
  %v = bf16[4,8]{1,0} parameter(1)
  %start = s32[] constant(0)
  %carried = (s32[], bf16[3,4,8]{2,1,0}, bf16[4,8]{1,0}) tuple(%start, %w, %v)
  %loop = (s32[], bf16[3,4,8]{2,1,0}, bf16[4,8]{1,0}) while(%carried), condition=%condition, body=%body
  %z = bf16[4,8]{1,0} get-tuple-element(%loop), index=2
  %attended = bf16[4,8]{1,0} custom-call(%z, %z), custom_call_target="__cudnn$fmhaSoftmax"
  %many = bf16[4,4]{1,0} custom-call(%z, %z), custom_call_target="__cublas$lt$matmul"
  ROOT %copy = bf16[4,8]{1,0} copy(%attended)
}
"""  # noqa: E501


def test_bytes_of_a_step():
  """A trip: 3 x 64 to add a row, 2 x 64 to store one, and the index twice. The copy: 2 x 64."""
  assert kernel_traffic.other_bytes(hlo.parse(PROGRAM)) == 3 * (3 * 64 + 2 * 64 + 2 * 4) + 2 * 64


def test_a_fusion_without_a_product_counts():
  """Three times two operands of 64 bytes and a result of 32."""
  without = PROGRAM.replace("dot(%a, %b)", "subtract(%a, %b)")
  added = kernel_traffic.other_bytes(hlo.parse(without))
  assert added - kernel_traffic.other_bytes(hlo.parse(PROGRAM)) == 3 * (2 * 64 + 32)
