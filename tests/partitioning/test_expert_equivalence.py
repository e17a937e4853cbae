"""Models with experts on eight simulated devices give the numbers of one."""

import json
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("mesh_program.py")
STEPS = 5  # After more, two equal probabilities may be rounded to another order.
MESHES = {
  "experts": (
    {"expert": 8},
    {"expert": 4, "data": 2},
    {"expert": 2, "tensor": 4},
    {"expert": 2, "fsdp": 2, "tensor": 2},
    {"expert": 2, "fsdp": 2, "sequence": 2},
    {"fsdp": 4, "tensor": 2},
  ),
  "experts_with_capacity": (
    {"expert": 8},
    {"expert": 4, "data": 2},
    {"expert": 2, "fsdp": 2, "tensor": 2},
    {"data": 4, "tensor": 2},
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", MESHES)
def test_meshes_with_experts_give_what_one_device_gives(on_eight_devices, architecture):
  arguments = (architecture, json.dumps([{"data": 1}, *MESHES[architecture]]), str(STEPS))
  lines = on_eight_devices(PROGRAM, *arguments, timeout=1800)
  one, *others = [json.loads(line) for line in lines if line.startswith("{")]
  assert len(others) == len(MESHES[architecture])
  for other in others:
    mesh = other["mesh"]
    assert other["losses"] == pytest.approx(one["losses"], rel=1e-5), mesh
    # Relative to how far five steps have moved a parameter, which is not far.
    assert other["apart"] < 1e-3, (mesh, other["where"])
    # Experts are most of the parameters: they are split over expert, fsdp and tensor.
    split = mesh.get("expert", 1) * mesh.get("fsdp", 1) * mesh.get("tensor", 1)
    assert other["params"] < 1 / split + 0.35, mesh
    kinds = {operation for operation, _, _ in other["collectives"]}
    if mesh.get("expert", 1) > 1:
      wanted = "all-to-all" if architecture == "experts_with_capacity" else "reduce-scatter"
      assert wanted in kinds, mesh
