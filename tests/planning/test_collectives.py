"""Collectives are read from programs: kinds, bytes, groups, loops. A step has no needless one."""

import math
import types

import pytest

from t5x_style.planning import collectives, hlo
from tests.planning import compiled_step
from tests.planning.tpu_program import PROGRAM


def chips(slices=1):
  """Returns the eight chips of each 2 x 4 slice, row by row."""
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
  # Four trips, from 1 to 5; both pieces are one collective, along the second axis of the torus.
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


GPU_PROGRAM = """HloModule step, is_scheduled=true

ENTRY %main (w: bf16[2,8]) -> bf16[2,8] {
  %w = bf16[2,8]{1,0} parameter(0)
  %near = (bf16[2,8]{1,0}, bf16[8,8]{1,0}) all-gather-start(%w), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  %near.done = bf16[8,8]{1,0} all-gather-done(%near)
  %far = bf16[2,8]{1,0} all-reduce-start(%w), channel_id=2, replica_groups={}, to_apply=%add
  %far.done = bf16[2,8]{1,0} all-reduce-done(%far)
  ROOT %rail = bf16[2,8]{1,0} all-reduce(%w), channel_id=3, replica_groups={{0,4},{1,5},{2,6},{3,7}}, to_apply=%add
}
"""  # noqa: E501


def test_gpus_of_a_node_have_a_network_of_their_own():
  """Two nodes of four GPUs: a group within one, one of all, and pairs of both nodes' GPUs."""
  gpus = [
    types.SimpleNamespace(platform="gpu", slice_index=i // 4, process_index=i // 4)
    for i in range(8)
  ]
  found = collectives.read(hlo.parse(GPU_PROGRAM), gpus)
  assert [(one.kind, one.network, one.group, one.per_node) for one in found] == [
    ("all-gather", "ici", 4, 1),
    ("all-reduce", "dcn", 8, 4),
    ("all-reduce", "dcn", 2, 1),
  ]
  assert [one.bytes for one in found] == [128, 32, 32]


def test_groups_spelt_in_a_new_way_are_no_silent_guess():
  instruction = hlo.Instruction("x", (), "all-reduce", (), "replica_groups=<<0>>", False)
  with pytest.raises(ValueError, match="spelt in a new way"):
    collectives._first_group(instruction, range(8))


def test_fsdp_gathers_kernels_layer_by_layer_and_never_activations(on_eight_devices, tmp_path):
  """A layer has 4 D N H + 3 D F parameters, gathered in the forward and the backward pass."""
  found = compiled_step.collectives_on(
    on_eight_devices, "decoder_only", {"data": 2, "fsdp": 4}, "full", tmp_path
  )
  c = compiled_step.CONFIG
  width = c["num_heads"] * c["head_dim"]
  layer = 4 * (4 * c["emb_dim"] * width + 3 * c["emb_dim"] * c["mlp_dim"])
  gathers = [one for one in found if one.kind == "all-gather"]
  kernels = [one for one in gathers if one.in_loop and len(one.shapes[0][1]) > 1]
  assert sum(one.bytes * one.times for one in kernels) == 2 * layer * compiled_step.LAYERS
  # Outside the layers: the table, once, for the loss; ids and their mask for the look-up.
  outside = [one for one in gathers if not one.in_loop and len(one.shapes[0][1]) > 1]
  floats = [one for one in outside if one.shapes[0][0] == "f32"]
  assert [one.shapes for one in floats] == [(("f32", (c["vocab_size"], c["emb_dim"])),)]
  assert all(one.bytes <= 1024 for one in outside if one not in floats)
  # Only the embeddings that were looked up are exchanged, rows for columns.
  exchanged = [one for one in found if one.kind == "all-to-all"]
  rows = compiled_step.ROWS * compiled_step.LENGTH * c["emb_dim"] * 4 // 8
  assert [one.bytes for one in exchanged] == [rows, rows]
  # No logits are sent, and no gradient of a kernel twice.
  largest = max(math.prod(sizes) for one in found for _, sizes in one.shapes)
  assert largest == c["vocab_size"] * c["emb_dim"]
