"""cuDNN's kernel without a GPU: the calls it is lowered to, and the meaning of their arguments."""

import functools
import re
from unittest import mock

import jax
import jax.numpy as jnp
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from t5x_style.models.attention import attend
from t5x_style.models.attention_kernels.pattern import KernelChoice
from t5x_style.models.attention_kernels.select import attention_inputs
from t5x_style.partitioning import Partitioner, make_mesh

B, L, N, K, H = 2, 200, 4, 2, 16
QUERIES, KEYS = f"{B}x{L}x{N}x{H}xbf16", f"{B}x{L}x{K}x{H}xbf16"
BIAS, MASK, LENGTHS = f"1x{N}x{L}x{L}xbf16", f"{B}x1x{L}x{L}xbf16", f"{B}xi32"


def calls(pattern, bias):
  """Yields (name, mask type, window, shapes of operands) of the forward and the backward call."""
  shapes = ((B, L, N, H), (B, L, K, H), (B, L, K, H), (1, N, L, L))
  arrays = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
  if not bias:
    arrays[3] = None

  def loss(query, key, value, bias):
    shared = attention_inputs(pattern, L, L, bias, KernelChoice("cudnn"))
    return attend(query, key, value, shared).astype(jnp.float32).sum()

  # JAX checks the machine before it lowers: a GPU of compute capability 9 with cuDNN 9.10.
  patch = functools.partial(mock.patch.object, fused_attention_stablehlo)
  with (
    patch("check_cudnn_version", lambda: 91000),
    patch("check_compute_capability", lambda capability: True),
    patch("is_cuda_compute_capability_equal", lambda capability: False),
    Partitioner(make_mesh({}, jax.devices()[:1])).context(),
  ):
    gradient = jax.jit(jax.grad(loss, tuple(range(4 if bias else 3))))
    text = gradient.trace(*arrays).lower(lowering_platforms=("cuda",)).as_text()
  for line in text.splitlines():
    if "__cudnn" in line:
      signature = line[line.rindex(" : ") :]
      config = line.replace("\\22", '"')
      yield (
        re.search(r"__cudnn\$(\w+)", line)[1],
        re.search(r'"mask_type": "(\w+)"', config)[1],
        int(re.search(r'"sliding_window_length": (\d+)', config)[1]),
        re.findall(r"tensor<([^>]*)>", signature.split("->")[0]),
      )


@pytest.mark.parametrize(
  ("name", "bias", "call", "mask_type", "window", "extra"),
  [
    ("causal", False, "fmhaSoftmax", "CAUSAL", 0, []),
    ("causal", True, "fmhaScaleBiasSoftmax", "CAUSAL", 0, [BIAS]),
    ("padding", True, "fmhaScaleBiasSoftmax", "PADDING", 0, [BIAS, LENGTHS, LENGTHS]),
    ("window, causal", False, "fmhaSoftmax", "CAUSAL", 38, []),
    ("packed, causal", False, "fmhaScaleBiasSoftmax", "CAUSAL", 0, [MASK]),
    ("packed, prefix", False, "fmhaScaleBiasSoftmax", "NO_MASK", 0, [MASK]),
    ("window", False, "fmhaScaleBiasSoftmax", "NO_MASK", 0, [f"1x1x{L}x{L}xbf16"]),
  ],
)
def test_calls(pattern, name, bias, call, mask_type, window, extra):
  forward, backward = calls(pattern(name), bias)
  assert forward == (call, mask_type, window, [QUERIES, KEYS, KEYS, *extra])
  assert backward[:3] == (f"{call}Backward", mask_type, window)
  assert set(extra) <= set(backward[3])


@pytest.fixture
def by_xla(monkeypatch):
  """Has XLA compute the same call of jax.nn.dot_product_attention."""
  original = jax.nn.dot_product_attention

  def call(*args, implementation, **kwargs):
    assert implementation == "cudnn"
    return original(*args, implementation="xla", **kwargs)

  monkeypatch.setattr(jax.nn, "dot_product_attention", call)


def test_arguments_mean_the_pattern(by_xla, any_pattern, inputs, check):
  check("cudnn", any_pattern, inputs())


def test_documents_are_apart(by_xla, pattern, inputs, check_documents_are_apart):
  check_documents_are_apart("cudnn", pattern("packed, causal"), inputs())


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU")
@pytest.mark.parametrize("bias", [False, True])
def test_on_a_gpu(any_pattern, inputs, check, bias):
  if not bias or (any_pattern.query_segments is None and any_pattern.window is None):
    check("cudnn", any_pattern, inputs(), with_bias=bias, dtype="bfloat16", atol=0.02)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU")
def test_documents_are_apart_on_a_gpu(pattern, inputs, check_documents_are_apart):
  check_documents_are_apart("cudnn", pattern("packed, causal"), inputs(), dtype="bfloat16")
