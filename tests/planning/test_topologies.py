"""Topologies are understood or refused with examples; rooflines and errors read as by hand."""

import os
import subprocess
import sys
import types

import jax
import pytest

from t5x_style.errors import UserError
from t5x_style.planning import compilation, topologies
from t5x_style.planning.collectives import Collective
from t5x_style.planning.roofline import collective_seconds, roofline

needs_libtpu = pytest.mark.skipif(not topologies.available(), reason="libtpu is not installed")


@pytest.mark.parametrize(
  ("text", "chips"),
  [("v5e:4x4", 16), ("V5P:4x4x8", 128), ("v4:2x2x1", 4), ("v6e:8x8", 64), ("v5e:1x1", 1)],
)
def test_topology(text, chips):
  topology = topologies.parse(text)
  assert topology.chips == chips
  assert topology.name == text.lower()
  assert topologies.parse(text, slices=3).chips == 3 * chips


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("v5e", "'v5e' is no topology: .* such as v4:2x2x4, v5e:4x4"),
    ("v9:4x4", "names 'v9', which is not known here: write the generation .v4, v5e, v5p, v6e"),
    ("v5p:4x4", "'v5p:4x4' has 2 axes, a v5p has 3: 2x2x1"),
    ("v5e:4x4x4", "has 3 axes, a v5e has 2"),
    ("v5e:3x5", "There is no v5e slice of 3x5: its hosts hold 2x2 chips"),
    ("v6e:32x32", "an axis at most 16"),
    ("v5p:0x4x4", "There is no v5p slice"),
  ],
)
def test_mistakes(text, message):
  with pytest.raises(ValueError, match=message):
    topologies.parse(text)


def test_libtpu_that_is_missing_is_named(monkeypatch):
  monkeypatch.setattr(topologies.importlib.util, "find_spec", lambda name: None)
  assert not topologies.available()
  with pytest.raises(ValueError, match=r"pip install .jax\[tpu\]"):
    topologies.devices("v5e:2x2")


def test_libtpu_of_another_jax_is_named(monkeypatch):
  required = ['libtpu==0.0.42.*; extra == "tpu"', "numpy"]
  monkeypatch.setattr(topologies.importlib.metadata, "requires", lambda name: required)
  for version, right in (("0.0.42", True), ("0.0.42.1", True), ("0.0.421", False), ("0.1", False)):
    monkeypatch.setattr(topologies.importlib.metadata, "version", lambda name: version)  # noqa: B023
    found = topologies.version_mismatch()
    assert found is None if right else found.startswith(f"libtpu is {version}, but JAX")
  # What fails then fails by it, whether the compiler says so or Pallas.
  for error in (jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure"), RuntimeError("a month")):

    def fail(error=error):
      raise error

    with pytest.raises(UserError, match=r"pip install 'libtpu==0.0.42.\*'. Compiling failed: "):
      compilation.compile_if_it_fits(fail)


@needs_libtpu
@pytest.mark.slow
def test_programs_are_compiled_beside_each_other():
  """One process has libtpu's lock file; another that was told to take it needs none."""
  program = "from t5x_style.planning import topologies as t; print(len(t.devices('v5e:2x2')))"
  holder = """
import contextlib, sys
from jax.experimental import topologies
with contextlib.suppress(Exception):  # Another process may have it already, such as this test's.
  topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
print("ready", flush=True)
sys.stdin.read()
"""
  environ = {**os.environ, "JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
  environ |= {"TPU_ACCELERATOR_TYPE": "v5p-8", "TPU_WORKER_HOSTNAMES": "localhost"}
  environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "0"
  pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
  with subprocess.Popen([sys.executable, "-c", holder], env=environ, **pipes) as first:
    assert first.stdout.readline() == "ready\n"
    second = subprocess.run(
      [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=120
    )
    first.stdin.close()
  assert second.stdout == "4\n", second.stderr[-2000:]


@needs_libtpu
@pytest.mark.parametrize("text", ["v4:2x2x4", "v5e:4x4", "v5p:2x2x2", "v6e:2x4", "v5e:1x1"])
def test_a_device_is_a_chip(text):
  topology = topologies.parse(text, slices=1 if text == "v5e:1x1" else 2)
  devices = topologies.devices(topology)
  assert len(devices) == topology.chips
  assert {d.platform for d in devices} == {"tpu"}
  coordinates = [tuple(d.coords[: len(topology.shape)]) for d in devices]
  assert max(coordinates) == tuple(n - 1 for n in topology.shape)
  if topology.slices == 2:
    assert {d.slice_index for d in devices} == {0, 1}


@needs_libtpu
def test_too_much_is_an_answer_and_the_limit_is_the_compilers():
  """A product of 64 GiB; compiling it stops after a second."""
  for text in ("v4:2x2x1", "v5e:2x2", "v6e:2x2", "v5p:2x2x1"):
    topology = topologies.parse(text)
    place = jax.sharding.SingleDeviceSharding(topologies.devices(topology)[0])
    x = jax.ShapeDtypeStruct((2**18, 2**17), "float32", sharding=place)
    lowered = jax.jit(lambda x: jax.numpy.sort(x @ x.T, axis=0)).lower(x)
    found = compilation.compile_if_it_fits(lowered.compile)
    assert isinstance(found, compilation.TooLarge)
    assert found.needed >= 2**38, found
    assert found.available == pytest.approx(topology.chip.usable_hbm_bytes, rel=1e-3)


def test_other_errors_are_no_answer():
  def fail():
    raise jax.errors.JaxRuntimeError("INTERNAL: something else")

  with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
    compilation.compile_if_it_fits(fail)


def test_reads_what_is_too_large():
  found = compilation.read_too_large(
    "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 22.50G of 15.75G hbm. "
    "Exceeded hbm capacity by 6.75G.\n\n  Largest program allocations in hbm:\n\n"
    '  1. Size: 8.00G\n     Operator: op_name="jit(train_step)/logits"\n'
    "     Shape: f32[65536,32768]{1,0:T(8,128)}\n"
  )
  assert (found.needed, found.available) == (22.5 * 2**30, 15.75 * 2**30)
  assert found.largest[0][0] == 8 * 2**30
  assert "f32[65536,32768]" in found.largest[0][1]


def collective(kind, group, axes, network="ici", size=16_000_000, times=3):
  return Collective(kind, network, (), size, group, axes, times, True, "")


def test_seconds_of_a_collective():
  """16 MB three times among 16 chips: 45 MB leave each chip, over links of 45 GB/s each way."""
  wide, small = topologies.parse("v5e:16x16"), topologies.parse("v5e:4x4")
  wire = 3 * 16e6 * 15 / 16
  assert collective("all-gather", 16, (0,)).wire_bytes == wire
  # The 16 chips of an axis of 16 are a ring; of a 4 x 4 slice, two lines of 4.
  assert collective_seconds(collective("all-gather", 16, (0,)), wide) == wire / 9e10
  assert collective_seconds(collective("all-gather", 16, (0, 1)), small) == wire / 9e10
  assert collective_seconds(collective("all-gather", 4, (0,)), small) == 36e6 / 4.5e10
  assert collective_seconds(collective("all-reduce", 16, (0,)), wide) == 2 * wire / 9e10
  assert collective_seconds(collective("all-to-all", 16, (0,)), wide) == 4 * wire / 9e10
  across = collective("all-reduce", 2, (), "dcn")
  assert collective_seconds(across, topologies.parse("v5e:4x4", 2)) == 48e6 / 3.125e9


def test_roofline_is_its_slowest_part():
  topology = topologies.parse("v5e:4x4")
  line = roofline(
    topology,
    [collective("all-gather", 4, (0,))],
    model_flops=16 * 197e12 * 0.3,
    executed_flops=16 * 197e12 * 0.4,
    hbm_bytes=8.2e11 * 0.5,
  )
  assert (line.seconds, line.bound_by) == (pytest.approx(0.5), "hbm")
  assert line.mfu_bound == pytest.approx(0.6)
  assert line.ici == pytest.approx(36e6 / 4.5e10)
  assert line.dcn == 0


def test_torus_closes_where_it_is_long_enough():
  assert topologies.parse("v5p:4x4x8").wraps(2)
  assert not topologies.parse("v5p:2x4x4").wraps(2)
  assert not topologies.parse("v6e:8x16").wraps(0)
  assert topologies.parse("v6e:8x16").wraps(1)


def test_bytes_on_a_device():
  x = types.SimpleNamespace(
    shape=(8, 6),
    dtype=jax.numpy.dtype("bfloat16"),
    sharding=types.SimpleNamespace(shard_shape=lambda shape: (4, 6)),
  )
  assert compilation.device_bytes([x, x]) == 2 * 4 * 6 * 2
