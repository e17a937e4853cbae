"""Hardware facts are found by the names that devices report."""

import types

import pytest

from t5x_style import hardware
from t5x_style.errors import UserError


@pytest.mark.parametrize(
  ("kind", "platform", "tera_flops", "gib"),
  [
    ("TPU v5 lite", "tpu", 197, 16),
    ("TPU v5", "tpu", 459, 95),
    ("TPU v6 lite", "tpu", 918, 32),
    ("NVIDIA H100 PCIe", "cpu", 756, None),
    ("NVIDIA H100 80GB HBM3", "cpu", 989, None),
    ("cpu", "cpu", None, None),
  ],
)
def test_the_longest_name_that_fits_is_found(kind, platform, tera_flops, gib):
  device = types.SimpleNamespace(device_kind=kind, platform=platform)
  assert hardware.peak_flops(device) == (tera_flops and tera_flops * 1e12)
  assert hardware.device_memory(device) == (gib and gib * 2**30)


def test_a_gpu_reports_its_own_memory(monkeypatch):
  reporting = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 2**37 - 2**20})
  monkeypatch.setattr("jax.local_devices", lambda: [reporting])
  device = types.SimpleNamespace(device_kind="NVIDIA H200", platform="gpu")
  assert hardware.device_memory(device) == 2**37


def test_a_gpu_that_is_absent_has_the_memory_of_its_variant():
  """This machine's devices are CPUs; a driver reports 84,942,979,072 bytes of an H100 SXM."""
  device = types.SimpleNamespace(device_kind="NVIDIA H100 80GB HBM3", platform="gpu")
  assert hardware.device_memory(device) == 84_942_979_072


def test_a_gpu_is_compiled_for_under_the_name_that_it_reports():
  for chip in hardware.GPU_CHIPS.values():
    assert hardware.find_accelerator(chip.device_kind) is chip


@pytest.mark.parametrize(("reported", "expected"), [("8.9", (8, 9)), ("10.0", (10, 0))])
def test_compute_capability(reported, expected):
  device = types.SimpleNamespace(compute_capability=reported)
  assert hardware.compute_capability(device) == expected
  assert hardware.compute_capability(types.SimpleNamespace(device_kind="TPU v4")) is None


@pytest.mark.parametrize("name", ["XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"])
def test_the_share_of_a_gpu_that_jax_takes(monkeypatch, name):
  for other in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
    monkeypatch.delenv(other, raising=False)
  chip = hardware.GPU_CHIPS["h100"]
  assert chip.usable_hbm_bytes == 63_707_234_304
  monkeypatch.setenv(name, ".5")
  assert chip.usable_hbm_bytes == 42_471_489_536
  monkeypatch.setenv(name, "")
  assert hardware.gpu_memory_share() == 0.75
  for wrong in ("0", "1.5", "nan", "75%"):
    monkeypatch.setenv(name, wrong)
    with pytest.raises(UserError, match=f"{name} = '{wrong}' is not a share of a GPU's memory"):
      hardware.gpu_memory_share()
  both = {"XLA_CLIENT_MEM_FRACTION": ".5", "XLA_PYTHON_CLIENT_MEM_FRACTION": ".5"}
  with pytest.raises(UserError, match="unset the second"):
    hardware.gpu_memory_share(both)
