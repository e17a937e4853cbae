"""What a process finds out about its host."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.hosts import report

PROGRAM = """
import dataclasses, json, os
from launch.hosts import report
print(json.dumps(dataclasses.asdict(report.measure(os.getcwd(), "cpu"))))
"""


def test_a_machine_of_eight_devices(on_eight_devices, tmp_path):
  program = tmp_path / "program.py"
  program.write_text(PROGRAM)
  (line,) = on_eight_devices(program)
  found = report.from_json(json.loads(line))
  assert (found.platform, found.device_kind, found.devices) == ("cpu", "cpu", 8)
  assert not found.wrong_products and not found.wrong_sum
  assert 1e8 < found.flops < 1e13  # of one of eight threads on some processor
  assert 0 < found.all_reduce_seconds < 10
  assert found.free_disk > 0 and found.free_memory > 0


@pytest.mark.parametrize(
  ("name", "wrong"), [("einsum", {"wrong_products"}), ("broadcasted_iota", {"wrong_sum"})]
)
def test_wrong_numbers_are_noticed(monkeypatch, name, wrong):
  """A device that adds a little to one number of a product, or to what it gives to the sum."""
  module = jnp if name == "einsum" else jax.lax
  right = getattr(module, name)

  def spoilt(*arguments):
    result = right(*arguments)
    return result.at[0, 0].add(1) if result.dtype == jnp.float32 else result

  monkeypatch.setattr(module, name, spoilt)
  found = dataclasses.asdict(report.measure(None, "cpu"))
  assert {key for key in ("wrong_products", "wrong_sum") if found[key]} == wrong


@pytest.mark.parametrize("devices", [8, 6_144, 8_960, 60_000])
def test_float32_adds_exactly_what_many_devices_give(devices):
  given = np.asarray(report.summand(jnp.arange(devices, dtype=jnp.float32)))
  assert given.dtype == np.float32 and len(set(given)) == min(devices, 251)
  for order in (given, given[::-1], np.sort(given)):
    assert np.cumsum(order, dtype=np.float32)[-1] == report.right_sum(devices)
  assert report.right_sum(devices) < 2**24


def test_free_memory(tmp_path):
  assert report.free_memory(tmp_path) is None
  (tmp_path / "proc").mkdir()
  (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:      8 kB\n")
  assert report.free_memory(tmp_path) == 8192
  (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
  (tmp_path / "sys/fs/cgroup/memory.current").write_text("1000\n")
  for limit, free in (("max", 8192), ("5000", 4000), ("100000", 8192)):
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(f"{limit}\n")
    assert report.free_memory(tmp_path) == free
