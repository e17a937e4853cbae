"""Tokamax's kernel: its arguments mean the pattern; on a GPU, it agrees with float64."""

import importlib.util

import jax
import pytest

from t5x_style import hardware
from t5x_style.models.attention_kernels import tokamax_flash
from t5x_style.models.attention_kernels.pattern import AttentionSpec, Pattern
from t5x_style.models.attention_kernels.select import choose_kernel

SPEC = AttentionSpec((8, 256, 8, 64), (8, 256, 8, 64), "bfloat16", Pattern(causal=True), bias=True)


@pytest.fixture
def by_xla(monkeypatch):
  """Has Tokamax compute the same call in plain operations, which run on every device."""
  tokamax = pytest.importorskip("tokamax")
  original = tokamax.dot_product_attention

  def call(*args, implementation, **kwargs):
    assert "triton" in implementation and "xla" not in implementation
    return original(*args, implementation="xla", **kwargs)

  monkeypatch.setattr(tokamax, "dot_product_attention", call)


@pytest.mark.parametrize("bias", [False, True])
def test_arguments_mean_the_pattern(by_xla, any_pattern, inputs, check, bias):
  check("tokamax", any_pattern, inputs(), with_bias=bias)


def test_a_soft_cap(by_xla, pattern, inputs, check):
  check("tokamax", pattern("packed, causal"), inputs(), with_bias=False, soft_cap=2.0)


def test_documents_are_apart(by_xla, pattern, inputs, check_documents_are_apart):
  check_documents_are_apart("tokamax", pattern("packed"), inputs(), with_bias=True)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU")
@pytest.mark.parametrize("bias", [False, True])
def test_on_a_gpu(any_pattern, inputs, check, bias):
  pytest.importorskip("tokamax")
  check("tokamax", any_pattern, inputs(), with_bias=bias, dtype="bfloat16", atol=0.02)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU")
def test_documents_are_apart_on_a_gpu(pattern, inputs, check_documents_are_apart):
  pytest.importorskip("tokamax")
  check_documents_are_apart(
    "tokamax", pattern("packed"), inputs(), with_bias=True, dtype="bfloat16"
  )


def test_it_is_chosen_only_if_it_is_requested_and_installed(on_platform, monkeypatch):
  on_platform("gpu")
  packed = SPEC._replace(pattern=Pattern(query_segments=jax.numpy.ones((8, 256), "int32")))
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
  assert choose_kernel("auto", "it", packed).name == "xla"
  assert choose_kernel("tokamax", "it", packed).name == "tokamax"
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ValueError, match=r"tokamax is not installed: pip install .*\[gpu-kernels\]"):
    choose_kernel("tokamax", "it", packed)


@pytest.mark.parametrize(
  ("changes", "capability", "reason"),
  [
    ({}, (9, 0), None),
    ({"dtype": "float32"}, (9, 0), "bfloat16 or float16, DTYPE is 'float32'"),
    ({}, (7, 5), "compute capability 8.0, the GPU has 7.5"),
  ],
)
def test_what_it_cannot_compute(monkeypatch, changes, capability, reason):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
  monkeypatch.setattr(hardware, "compute_capability", lambda device: capability)
  found = tokamax_flash.reason_against(SPEC._replace(**changes))
  assert found is None if reason is None else reason in found
