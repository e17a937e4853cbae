"""Attention by blocks with a bias by distance, on one device, against float64."""

import jax.numpy as jnp
import pytest

from t5x_style.models.attention_kernels import ring
from t5x_style.models.attention_kernels.pattern import Pattern


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
  """Rows of 200 tokens are padded to five blocks of 48."""
  monkeypatch.setattr(ring, "_BLOCK", 48)
  monkeypatch.setattr(ring, "_MULTIPLE", 16)


@pytest.mark.slow
def test_every_pattern(any_pattern, inputs, check):
  check("long", any_pattern, inputs(), with_bias=True)


def test_a_soft_cap(inputs, pattern, check):
  check("long", pattern("packed, causal"), inputs(), with_bias=True, soft_cap=2.0)


@pytest.mark.slow
def test_cross_attention_to_padded_rows(inputs, check):
  keys = jnp.array([[1] * 100 + [0] * 33, [1] * 133])
  check("long", Pattern(key_segments=keys), inputs(140, 133, K=1))


@pytest.mark.slow
def test_documents_are_apart(inputs, pattern, check_documents_are_apart):
  check_documents_are_apart("long", pattern("packed, causal"), inputs())


@pytest.mark.slow
def test_in_bfloat16(inputs, pattern, check):
  check("long", pattern("packed"), inputs(), with_bias=True, dtype="bfloat16", atol=0.02)
