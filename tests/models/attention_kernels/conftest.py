"""Attention and its gradients in float64, patterns of every kind, and checks of a kernel."""

import json
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models.attention import attend
from t5x_style.models.attention_kernels.pattern import KernelChoice, Pattern
from t5x_style.models.attention_kernels.select import BIAS_BY_DISTANCE, attention_inputs

# Two rows of 200 tokens: documents of 90 and 70 tokens and padding; one of 130, one of 70.
LENGTH, SCALE = 200, 0.25
REACH = 20  # of a bias by distance
SEGMENTS = np.array([[1] * 90 + [2] * 70 + [0] * 40, [1] * 130 + [2] * 70], np.int32)
PREFIX = np.array([[1] * 20 + [0] * 70 + [1] * 50 + [0] * 60, [0] * 130 + [1] * 30 + [0] * 40])
PATTERNS = {
  "both ways": {},
  "causal": {"causal": True},
  "padding": {"key_segments": SEGMENTS},
  "packed": {"query_segments": SEGMENTS, "key_segments": SEGMENTS},
  "packed, causal": {"query_segments": SEGMENTS, "key_segments": SEGMENTS, "causal": True},
  "packed, prefix": {
    "query_segments": SEGMENTS,
    "key_segments": SEGMENTS,
    "prefix": PREFIX,
    "causal": True,
  },
  "window": {"window": 37},
  "window, causal": {"window": 37, "causal": True},
  "window, packed, prefix": {
    "query_segments": SEGMENTS,
    "key_segments": SEGMENTS,
    "prefix": PREFIX,
    "causal": True,
    "window": 37,
  },
}


def make_pattern(name):
  fields = {
    k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in PATTERNS[name].items()
  }
  return Pattern(**fields)


def reference(query, key, value, cotangent, mask, bias, scale, soft_cap):
  """Returns the output and all gradients in float64; queries that see no key give zeros."""
  query, key, value, cotangent = (np.asarray(x, np.float64) for x in (query, key, value, cotangent))
  groups, key_heads = query.shape[2] // key.shape[2], key.shape[2]
  key, value = (np.repeat(x, groups, axis=2) for x in (key, value))
  raw = scale * np.einsum("blnh,bsnh->bnls", query, key)
  logits = raw if soft_cap is None else soft_cap * np.tanh(raw / soft_cap)
  logits = logits + (0 if bias is None else np.asarray(bias, np.float64))
  seen = np.broadcast_to(True if mask is None else mask, logits.shape)
  logits = np.where(seen, logits, -1e30)
  weights = np.exp(logits - logits.max(-1, keepdims=True)) * seen
  weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
  by_weights = np.einsum("blnh,bsnh->bnls", cotangent, value)
  by_logits = weights * (by_weights - (by_weights * weights).sum(-1, keepdims=True))
  by_raw = scale * by_logits
  if soft_cap is not None:
    by_raw = by_raw / np.cosh(raw / soft_cap) ** 2

  def of_key_heads(x):
    return x.reshape(*x.shape[:2], key_heads, groups, -1).sum(3)

  return types.SimpleNamespace(
    output=np.einsum("bnls,bsnh->blnh", weights, value),
    query=np.einsum("bnls,bsnh->blnh", by_raw, key),
    key=of_key_heads(np.einsum("bnls,blnh->bsnh", by_raw, query)),
    value=of_key_heads(np.einsum("bnls,blnh->bsnh", weights, cotangent)),
    bias=by_logits.sum(0, keepdims=True),
  )


def bias_of_all_pairs(by_distance, L, S):
  """Returns the bias [1, N, L, S] that one by distance, [N, 2 REACH + 1], stands for."""
  distance = np.arange(S) - np.arange(L)[:, None]
  return np.asarray(by_distance)[None, :, np.clip(distance, -REACH, REACH) + REACH]


def gradient_by_distance(gradient):
  """Returns the gradient [N, 2 REACH + 1] of a bias by distance, from that of all pairs."""
  _, N, L, S = gradient.shape
  index = np.clip(np.arange(S) - np.arange(L)[:, None], -REACH, REACH) + REACH
  return np.stack([np.bincount(index.ravel(), gradient[0, n].ravel()) for n in range(N)])


@pytest.fixture(params=PATTERNS)
def any_pattern(request):
  return make_pattern(request.param)


@pytest.fixture
def pattern():
  return make_pattern


@pytest.fixture
def inputs():
  """Makes random query, key, value, cotangent of the output and bias, in float32."""

  def make(L=LENGTH, S=LENGTH, N=4, K=2, H=16, rows=2):
    rng = np.random.default_rng(0)
    shapes = ((rows, L, N, H), (rows, S, K, H), (rows, S, K, H), (rows, L, N, H), (1, N, L, S))
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]

  return make


def compute(kernel, pattern, inputs, with_bias=False, soft_cap=None, dtype="float32"):
  """Returns what a kernel computes, with the same fields as `reference`."""
  *arrays, bias = (x.astype(dtype) for x in inputs)
  lengths = arrays[0].shape[1], arrays[1].shape[1]

  @jax.jit
  def run(query, key, value, cotangent, bias, pattern):
    def output(query, key, value, bias):
      shared = attention_inputs(pattern, *lengths, bias, KernelChoice(kernel))
      return attend(query, key, value, shared, scale=SCALE, soft_cap=soft_cap)

    out, pull = jax.vjp(output, query, key, value, bias)
    return (out, *pull(cotangent))

  return types.SimpleNamespace(
    **dict(
      zip(
        ("output", "query", "key", "value", "bias"),
        run(*arrays, bias if with_bias else None, pattern),
        strict=True,
      )
    )
  )


@pytest.fixture
def check():
  """Compares a kernel with float64: the output and every gradient."""

  def run(kernel, pattern, inputs, *, with_bias=False, soft_cap=None, dtype="float32", atol=1e-5):
    by_distance = with_bias and kernel in BIAS_BY_DISTANCE
    if by_distance:
      table = inputs[4][0, :, 0, : 2 * REACH + 1]
      full = bias_of_all_pairs(table, inputs[0].shape[1], inputs[1].shape[1])
    got = compute(
      kernel, pattern, [*inputs[:4], table] if by_distance else inputs, with_bias, soft_cap, dtype
    )
    mask = pattern.mask(inputs[0].shape[1], inputs[1].shape[1])
    bias = (full if by_distance else inputs[4]) if with_bias else None
    expected = reference(*inputs[:4], mask, bias, SCALE, soft_cap)
    if by_distance:
      expected.bias = gradient_by_distance(expected.bias)
    for name in ("output", "query", "key", "value", *(["bias"] if with_bias else [])):
      value, size = getattr(expected, name), np.abs(getattr(expected, name)).max()
      np.testing.assert_allclose(getattr(got, name) / size, value / size, atol=atol, err_msg=name)

  return run


@pytest.fixture
def check_documents_are_apart():
  """Checks that gradients between documents, and of queries that are padding, are exactly zero."""

  def run(kernel, pattern, inputs, with_bias=False, dtype="float32"):
    for document in (0, 2):
      own = SEGMENTS == document
      part = inputs[3] * own[:, :, None, None]
      got = compute(kernel, pattern, [*inputs[:3], part, inputs[4]], with_bias, dtype=dtype)
      for name in ("query", "key", "value"):
        gradient = np.abs(np.asarray(getattr(got, name), np.float32)).sum((2, 3))
        assert (gradient[~own] == 0).all(), f"{name}, document {document}"
        assert (gradient[own] > 0).any() == (document > 0), f"{name}, document {document}"

  return run


@pytest.fixture
def errors_on_meshes(on_eight_devices):
  """Returns the errors of a kernel's output and gradients on three meshes of 8 devices."""

  def run(kernel):
    program = Path(__file__).with_name("mesh_program.py")
    errors = [json.loads(line) for line in on_eight_devices(program, kernel)]
    assert [len(x) for x in errors] == [5, 5, 5], errors
    return [error for mesh in errors for error in mesh]

  return run
