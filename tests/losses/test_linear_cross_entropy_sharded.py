"""The same values on every mesh of eight devices, and what the devices send to each other."""

import itertools
import json
import math
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("sharded_program.py")
ROWS, LENGTH, EMB_DIM, VOCAB_SIZE, CHUNK_SIZE = 8, 10, 16, 256, 6

ALL_MESHES = [sizes for sizes in itertools.product((1, 2, 4, 8), repeat=4) if math.prod(sizes) == 8]
MESHES = [(8, 1, 1, 1), (2, 2, 1, 2), (1, 2, 4, 1), (1, 1, 1, 8)]


def reports(on_eight_devices, meshes, *before):
  arguments = (",".join(map(str, sizes)) for sizes in meshes)
  lines = on_eight_devices(PROGRAM, *before, *arguments, timeout=900)
  return [json.loads(line) for line in lines]


def check(report):
  data, fsdp, sequence, tensor = report["mesh"]
  columns = VOCAB_SIZE // tensor
  tokens = ROWS // (data * fsdp) * math.ceil(LENGTH / sequence)
  for chunk_size in ("6", "None"):
    part = report[chunk_size]
    assert part["error"] < 2e-6, report["mesh"]
    assert part["chunks"]["tokens"] == tokens
    assert part["chunks"]["vocab_size"] == columns
    chunk = part["chunks"]["chunk_size"]
    assert chunk == (min(CHUNK_SIZE, tokens) if chunk_size == "6" else tokens)
    for operation, arrays, in_scan in part["collectives"]:
      for shape in arrays:
        where = f"{operation} of {shape} on {report['mesh']}"
        if shape[-1:] in ([columns], [VOCAB_SIZE]) and len(shape) > 1:
          # Only the gathered kernel or its summed gradient: never logits, never once per chunk.
          assert shape[-2] in (EMB_DIM, EMB_DIM // fsdp), where
          assert not in_scan, where
        elif in_scan:
          assert math.prod(shape) <= chunk * EMB_DIM, where
        if operation == "all-gather" and LENGTH % sequence == 0:
          assert shape == [EMB_DIM, columns], where


@pytest.mark.slow
def test_on_four_meshes(on_eight_devices):
  for report in reports(on_eight_devices, MESHES):
    check(report)


@pytest.mark.slow
def test_columns_aligned_for_gpus_on_meshes(on_eight_devices):
  meshes = [(1, 2, 1, 4), (1, 1, 1, 8)]  # 64 and 32 columns a device.
  for report in reports(on_eight_devices, meshes, "gpu"):
    check(report)


@pytest.mark.slow
def test_on_all_meshes(on_eight_devices):
  assert len(ALL_MESHES) == 20
  for report in reports(on_eight_devices, ALL_MESHES):
    check(report)
