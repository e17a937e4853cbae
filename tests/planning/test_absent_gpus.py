"""GPUs that are absent: their facts as text, their devices, and what is missing."""

import re

import pytest

from t5x_style.hardware import GPU_CHIPS
from t5x_style.planning import absent_gpus, topologies

needs_cuda = pytest.mark.skipif(
  not absent_gpus.available(), reason="JAX's CUDA plugin is not installed"
)


def test_the_plugin_that_is_missing_is_named(monkeypatch):
  monkeypatch.setattr(absent_gpus.importlib.util, "find_spec", lambda name: None)
  assert not absent_gpus.available()
  with pytest.raises(ValueError, match=r"CUDA plugin: pip install .jax\[cuda13\]"):
    topologies.devices("h100:8")


def test_facts_of_a_gpu_as_text():
  """NVIDIA's H100 SXM: 132 multiprocessors, of which a block gets 227 of 228 KiB; 9.0a."""
  text = absent_gpus.target_config(GPU_CHIPS["h100"])
  facts = dict(re.findall(r"(\w+): (\S+)", text))
  assert (facts["core_count"], facts["fpus_per_core"]) == ("132", "128")
  assert facts["shared_memory_per_block_optin"] == str(227 * 1024)
  assert (facts["major"], facts["feature_extension"]) == ("9", "ACCELERATED_FEATURES")
  assert facts["memory_bandwidth"] == "3350000000000"
  older = absent_gpus.target_config(GPU_CHIPS["a100"])
  assert "feature_extension: NONE" in older and "fpus_per_core: 64" in older


@needs_cuda
@pytest.mark.parametrize("text", ["a100:1", "h100:8", "h200:2x4", "b200:3x2"])
def test_a_device_is_a_gpu_and_a_node_is_a_process(text):
  topology = topologies.parse(text)
  devices = topologies.devices(topology)
  assert len(devices) == topology.chips
  assert {(d.platform, d.device_kind) for d in devices} == {("gpu", topology.chip.device_kind)}
  assert len({d.process_index for d in devices}) == topology.slices
