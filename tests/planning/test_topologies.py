"""Topologies are parsed, or refused with examples; devices of absent TPUs can be made."""

import os
import subprocess
import sys

import pytest

from t5x_style.hardware import TPU_CHIPS
from t5x_style.planning import topologies

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
  ("text", "chips", "nodes", "spelt"),
  [
    ("h100:8", 8, 1, "a node of 8 H100"),
    ("H200:1", 1, 1, "a node of 1 H200"),
    ("b200:4x8", 32, 4, "4 nodes of 8 B200"),
    ("a100:2x4", 8, 2, "2 nodes of 4 A100"),
  ],
)
def test_topology_of_gpus(text, chips, nodes, spelt):
  topology = topologies.parse(text)
  assert (topology.chips, topology.slices, str(topology)) == (chips, nodes, spelt)
  assert (topology.platform, topology.name) == ("gpu", text.lower())


@pytest.mark.parametrize("text", ["h100:16", "h100:2x16", "h100:2x2x2", "h100:0x8"])
def test_a_node_has_at_most_eight_gpus(text):
  with pytest.raises(ValueError, match=f"no topology {text!r}: a node has 1 to 8 GPUs.*h100:4x8"):
    topologies.parse(text)


def test_nodes_are_part_of_the_name():
  with pytest.raises(ValueError, match="--slices is for TPUs: write 'h100:8' with the nodes"):
    topologies.parse("h100:8", slices=2)


@pytest.mark.parametrize("chip", TPU_CHIPS.values(), ids=TPU_CHIPS)
def test_examples_of_messages_are_topologies(chip):
  for shape in (chip.example, *chip.slices.split(", ")):
    assert topologies.parse(f"{chip.name}:{shape}").name == f"{chip.name}:{shape}"


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


@needs_libtpu
@pytest.mark.slow
def test_two_processes_compile_at_the_same_time():
  """One process has libtpu's lock file; another one that only compiles needs none."""
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


def test_torus_closes_where_it_is_long_enough():
  assert topologies.parse("v5p:4x4x8").wraps(2)
  assert not topologies.parse("v5p:2x4x4").wraps(2)
  assert not topologies.parse("v6e:8x16").wraps(0)
  assert topologies.parse("v6e:8x16").wraps(1)
