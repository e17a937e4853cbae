"""Training on eight simulated devices gives the numbers of one, with a share of memory on each."""

import json
import math
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("mesh_program.py")
ROWS, LENGTHS = 8, (24, 16)  # of a microbatch
TABLE = 120 * 40  # less than the hidden states of a microbatch
ARCHITECTURES = ("encoder_decoder", "decoder_only", "long_rows", "encoder_only")

MESHES = (
  {"data": 8},
  {"fsdp": 8},
  {"tensor": 8},
  {"data": 2, "fsdp": 2, "tensor": 2},
  {"sequence": 4, "data": 2},
  {"fsdp": 4, "sequence": 2},
  {"sequence": 2, "fsdp": 2, "tensor": 2},
  {"data": 2, "tensor": 4},
  {"sequence": 4, "tensor": 2},
)


def reports(on_eight_devices, architecture, meshes):
  """Returns the report of one device, and those of the meshes; see mesh_program.py."""
  arguments = (architecture, json.dumps([{"data": 1}, *meshes]))
  lines = on_eight_devices(PROGRAM, *arguments, timeout=1800)
  return [json.loads(line) for line in lines if line.startswith("{")]


def check(one, other):
  mesh = other["mesh"]
  # Dropout, two documents a row, microbatches and rematerialisation included.
  assert other["losses"] == pytest.approx(one["losses"], rel=1e-5), mesh
  # Relative to how far 20 steps have moved a parameter: float32 has each gradient to about 1e-6 of
  # the largest, and 20 steps of momentum add these errors.
  assert other["apart"] < 1e-4, (mesh, other["where"])
  split = mesh.get("fsdp", 1) * mesh.get("tensor", 1)
  for kind in ("params", "opt_state"):
    # Norms, position biases and few key heads stay whole; everything large is split.
    assert 1 / split <= other[kind] + 1e-3 and other[kind] < 1 / split + 0.1, (mesh, kind)
  # Activations, gradients and gathered parameters of one layer.
  assert other["temporary_bytes"] < 0.55 * one["temporary_bytes"], mesh
  check_collectives(other)


def check_collectives(report):
  """What is gathered: a layer's parameters, the table of the head, keys and values; no hidden
  states, no logits."""
  mesh = report["mesh"]
  rows = ROWS // (mesh.get("data", 1) * mesh.get("fsdp", 1))
  split = mesh.get("sequence", 1) > 1
  if split:  # Dropout of attention weights needs all keys; otherwise they travel around a ring.
    assert report["kernels"] == ["xla"] or report["kernels"] == ["ring"], report["kernels"]
  heads = report["kv_heads"]
  # If a model has fewer key heads than query heads, gathered queries are too large for this bound.
  keys = {rows * n * heads * 4 // parts for n in LENGTHS for parts in (1, mesh.get("tensor", 1))}
  for operation, arrays, where in report["collectives"]:
    for shape in arrays if operation == "all-gather" else ():
      about = f"{operation} of {shape} on {mesh} in {where[-120:]}"
      if "layers._residual" not in where:
        assert math.prod(shape) <= TABLE, about
      elif split and "attention" in where and len(shape) > 3:
        assert report["kernels"] == ["xla"], about
        assert math.prod(shape) in keys, about
      else:
        assert math.prod(shape) <= report["layer"], about


@pytest.mark.slow
@pytest.mark.parametrize(
  ("architecture", "first"),
  [("decoder_only", "data"), ("encoder_decoder", "data"), ("long_rows", "sequence")],
)
def test_a_mesh_of_three_axes_gives_what_one_device_gives(on_eight_devices, architecture, first):
  one, other = reports(on_eight_devices, architecture, [{first: 2, "fsdp": 2, "tensor": 2}])
  assert one["losses"][-1] < one["losses"][0]
  check(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_meshes_give_what_one_device_gives(on_eight_devices, architecture):
  one, *others = reports(on_eight_devices, architecture, MESHES)
  assert len(others) == len(MESHES)
  for other in others:
    check(one, other)
