"""The kernels for blocks without a TPU: interpreted, against float64 and the plain operations."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models.attention_kernels import blockwise, ring, tpu_blocks


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
  """Interprets the kernels in blocks of 128: rows of 200 are padded to two blocks."""
  monkeypatch.setattr(ring, "current_platform", lambda: "tpu")
  monkeypatch.setattr(ring, "_BLOCK", 128)
  for name in ("forward", "backward"):
    kernel = functools.partial(getattr(tpu_blocks, name), interpret=True)
    monkeypatch.setattr(tpu_blocks, name, kernel)
    monkeypatch.setattr(blockwise, name, None)  # It is not called.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["packed, prefix", "window, causal"])
def test_with_a_bias_and_a_soft_cap(inputs, pattern, check, name):
  check("long", pattern(name), inputs(), with_bias=True, soft_cap=2.0)


@pytest.mark.slow
@pytest.mark.parametrize("with_bias", [True, False])
def test_every_pattern(any_pattern, inputs, check, with_bias):
  check("long", any_pattern, inputs(), with_bias=with_bias)


@pytest.mark.slow
def test_documents_are_apart(inputs, pattern, check_documents_are_apart):
  check_documents_are_apart("long", pattern("packed, causal"), inputs())


@pytest.mark.slow
def test_in_bfloat16(inputs, pattern, check):
  check("long", pattern("packed"), inputs(), with_bias=True, dtype="bfloat16", atol=0.02)


def test_a_step_that_computes_nothing_reads_nothing_new():
  queries = {"query": jnp.zeros((4, 1, 1, 1, 128, 8)), "start": jnp.arange(4) * 128}
  keys = {"key": jnp.zeros((4, 1, 1, 128, 8)), "start": jnp.arange(4) * 128}
  shape, rules = tpu_blocks._shape(queries, keys, None), blockwise.Rules(True, None, None)
  seen, read, *_ = tpu_blocks._tables(rules, queries, keys, shape, "kgbnm")
  np.testing.assert_array_equal(seen, np.tri(4))
  np.testing.assert_array_equal(read, [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]])
  read = tpu_blocks._tables(rules, queries, keys, shape, "kbmgn")[1]  # Blocks of queries.
  np.testing.assert_array_equal(read, [[0, 1, 2, 3], [1, 1, 2, 3], [2, 2, 2, 3], [3, 3, 3, 3]])
