"""Collectives are read from programs as they are: kinds, bytes, groups, loops; and few are made."""

import json
import math
import types

import pytest

from t5x_style.planning import collectives, hlo
from tests.planning import compiled_step

# What libtpu makes of collectives: one in pieces that share a chain_id, one as a fusion, one handed
# to the host to leave the slice, in a loop of which the first trip stands outside.
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


def chips(slices=1):
  """Eight chips of a 2 x 4 slice, in rows, and as many in each further slice."""
  return [
    types.SimpleNamespace(platform="tpu", slice_index=s, coords=[i // 4, i % 4, 0])
    for s in range(slices)
    for i in range(8)
  ]


def test_program_of_a_tpu():
  found = collectives.read(hlo.parse(PROGRAM), chips(slices=2))
  of = {(one.kind, one.network): one for one in found}
  assert len(of) == len(found) == 4
  gather = of["all-gather", "ici"]
  # Four trips, from 1 to 5; both pieces are one collective; along the second axis of the torus.
  assert (gather.times, gather.bytes, gather.group, gather.torus_axes) == (4, 128, 4, (1,))
  assert gather.in_loop and gather.shapes == (("bf16", (8, 8)),)
  assert gather.wire_bytes == 4 * 128 * 3 / 4
  scatter = of["reduce-scatter", "ici"]
  assert (scatter.times, scatter.bytes, scatter.group) == (4, 128, 4)
  across = of["all-reduce", "dcn"]
  assert (across.times, across.bytes, across.group, across.wire_bytes) == (1, 32, 2, 32)
  permute = of["collective-permute", "ici"]
  assert (permute.wire_bytes, permute.torus_axes, permute.where) == (32, (0,), "jit(step)/here")
  assert collectives.summary(found)[0] == {
    "kind": "all-gather",
    "network": "ici",
    "count": 4,
    "bytes": 512,
    "wire_bytes": 384,
  }


@pytest.mark.parametrize(
  ("text", "members"),
  [
    ("replica_groups={{1,3},{0,2}}", [1, 3]),
    ("replica_groups=[4,2]<=[8]", [0, 1]),
    ("replica_groups=[4,2]<=[2,4]T(1,0)", [0, 4]),
    ("replica_groups=mesh['a'=2,'b'=4] {'a'}", [0, 4]),
    ("replica_groups=mesh['a'=2,'b'=4] {'b':(2)2}", [0, 1]),
    ("replica_groups=mesh['a'=2,'b'=4] {'b':(1)2}", [0, 2]),
    ("replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}", [0, 1, 2, 3]),
    ("replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}", [0, 4]),
    ("replica_groups={}", list(range(8))),
  ],
)
def test_groups(text, members):
  instruction = hlo.Instruction("x", (), "all-reduce", (), text, False)
  assert collectives._first_group(instruction, range(8)) == members


def test_an_instruction_on_several_lines():
  body = hlo.parse(PROGRAM).computations["body"]
  assert body["kernel"].op_name == "splash"
  assert [*body][-1] == "out"


def test_groups_spelt_in_a_new_way_are_no_silent_guess():
  instruction = hlo.Instruction("x", (), "all-reduce", (), "replica_groups=<<0>>", False)
  with pytest.raises(ValueError, match="spelt in a new way"):
    collectives._first_group(instruction, range(8))


def step(on_eight_devices, architecture, mesh, remat, folder):
  """The collectives of a step on eight simulated devices."""
  arguments = (architecture, json.dumps(mesh), remat, str(folder))
  lines = on_eight_devices(compiled_step.__file__, *arguments)
  found = [collectives.Collective(**one) for one in json.loads(lines[-1])]
  return [
    one._replace(shapes=tuple((dtype, tuple(sizes)) for dtype, sizes in one.shapes))
    for one in found
  ]


def test_fsdp_gathers_kernels_layer_by_layer_and_never_activations(on_eight_devices, tmp_path):
  """Bytes by hand: 4 D N H + 3 D F parameters of a layer, gathered forwards and backwards."""
  found = step(on_eight_devices, "decoder_only", {"data": 2, "fsdp": 4}, "full", tmp_path)
  c = compiled_step.CONFIG
  width = c["num_heads"] * c["head_dim"]
  layer = 4 * (4 * c["emb_dim"] * width + 3 * c["emb_dim"] * c["mlp_dim"])
  gathers = [one for one in found if one.kind == "all-gather"]
  kernels = [one for one in gathers if one.in_loop and len(one.shapes[0][1]) > 1]
  assert sum(one.bytes * one.times for one in kernels) == 2 * layer * compiled_step.LAYERS
  # Outside of the layers: the table, once, for the loss; ids and their mask, to be looked up.
  outside = [one for one in gathers if not one.in_loop and len(one.shapes[0][1]) > 1]
  floats = [one for one in outside if one.shapes[0][0] == "f32"]
  assert [one.shapes for one in floats] == [(("f32", (c["vocab_size"], c["emb_dim"])),)]
  assert all(one.bytes <= 1024 for one in outside if one not in floats)
  # What was looked up changes places with other rows' columns; nothing else does.
  exchanged = [one for one in found if one.kind == "all-to-all"]
  rows = compiled_step.ROWS * compiled_step.LENGTH * c["emb_dim"] * 4 // 8
  assert [one.bytes for one in exchanged] == [rows, rows]
  # No logits are sent, and no gradient of a kernel twice.
  largest = max(math.prod(sizes) for one in found for _, sizes in one.shapes)
  assert largest == c["vocab_size"] * c["emb_dim"]
