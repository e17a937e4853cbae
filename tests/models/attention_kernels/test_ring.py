"""Ring attention on eight simulated devices, against float64, and what its program holds."""

import json
from pathlib import Path

import pytest

from t5x_style.models.attention_kernels import ring
from tests.models.attention_kernels.conftest import PATTERNS

PROGRAM = Path(__file__).with_name("ring_program.py")
# Eight parts of 25 tokens; two in zig-zag order for each of four devices; heads split too.
MESHES = (
  {"sequence": 8},
  {"sequence": 4, "data": 2},
  {"sequence": 2, "tensor": 4},
  {"fsdp": 2, "sequence": 2, "tensor": 2},
)


def check(on_eight_devices, meshes, patterns):
  lines = on_eight_devices(PROGRAM, json.dumps(meshes), json.dumps(patterns), timeout=1500)
  *reports, held = (json.loads(line) for line in lines)
  assert len(reports) == len(meshes) * len(patterns) + 1
  for report in reports:
    # 32 roundings of float32; the bias' gradient is the sum of two rows of 200 queries.
    assert max(report["errors"].values()) < 2.0**-17, report
  # Keys of a whole row are 2,048 x 8 numbers, in two rows; a device's queries a quarter of that.
  assert held["most"] < 2 * 2048 * 8, held
  assert "collective-permute" in held["operations"]
  assert "all-gather" not in held["operations"]


@pytest.mark.slow
def test_zigzag_rows_of_two_documents(on_eight_devices):
  check(on_eight_devices, MESHES[1:2], ["packed, prefix"])


@pytest.mark.slow
def test_every_pattern_on_every_mesh(on_eight_devices):
  check(on_eight_devices, MESHES, list(PATTERNS))


def test_blocks_of_a_part():
  lengths, sizes = (25, 129, 512, 513, 4096, 8194), (25, 256, 512, 384, 512, 512)
  assert tuple(map(ring._block_size, lengths)) == sizes
