"""The size of chunks: within the memory budget, even, and printed for the user."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t5x_style.losses import chunk_cross_entropy, plan_chunks


@given(st.integers(1, 10**6), st.integers(2, 300_000), st.sampled_from(["float32", "bfloat16"]))
def test_chunks_fit_the_budget_and_are_even(tokens, vocab_size, dtype):
  chunks = plan_chunks((tokens, 512), vocab_size, dtype)
  budget = chunk_cross_entropy._MEMORY_BUDGET["cpu"]
  row = vocab_size * (4 + np.dtype(dtype).itemsize)
  # Rounding up to whole tiles may take an eighth more, or seven tokens.
  assert chunks.bytes <= max(1.125 * budget, 8 * row)
  assert chunks.bytes == chunks.chunk_size * row
  padded = chunks.num_chunks * chunks.chunk_size
  assert 0 <= padded - tokens < chunks.chunk_size
  assert padded <= max(1.15 * tokens, tokens + 8 * chunks.num_chunks)
  if tokens * row <= budget:
    assert chunks.num_chunks == 1 and chunks.chunk_size == tokens


def test_a_large_head_on_an_accelerator(on_platform):
  on_platform("tpu")
  chunks = plan_chunks((8, 2048, 2048), 262_144, jnp.bfloat16)
  assert str(chunks) == "16 chunks of 1,024 tokens x 262,144 logits, 1.5 GiB"


def test_a_small_head():
  chunks = plan_chunks((8, 114, 512), 8320, jnp.float32)
  assert str(chunks) == "912 tokens x 8,320 logits, 57.9 MiB"


@pytest.mark.parametrize("chunk_size", [1, 7, 100, 1000])
def test_a_requested_size(chunk_size):
  chunks = plan_chunks((10, 10, 4), 50, jnp.float32, chunk_size)
  assert chunks.chunk_size == min(chunk_size, 100)
  assert chunks.num_chunks == math.ceil(100 / chunk_size)
