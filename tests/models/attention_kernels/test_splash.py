"""Splash attention without a TPU: interpreted, against float64."""

import functools

import jax.numpy as jnp
import pytest

from t5x_style.models.attention_kernels import splash
from t5x_style.models.attention_kernels.pattern import Pattern


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
  """Interprets the kernel in blocks of 128, so that short rows have several."""
  monkeypatch.setattr(splash, "attend", functools.partial(splash.attend, interpret=True))
  monkeypatch.setattr(splash, "_BLOCK_SIZES", (128,))


def test_packed_rows_with_prefix_window_and_soft_cap(inputs, pattern, check):
  check("splash", pattern("window, packed, prefix"), inputs(), soft_cap=2.0)


def test_cross_attention_to_padded_rows(inputs, check):
  keys = jnp.array([[1] * 100 + [0] * 33, [1] * 133])
  check("splash", Pattern(key_segments=keys), inputs(140, 133, K=1))


def test_documents_are_apart(inputs, pattern, check_documents_are_apart):
  check_documents_are_apart("splash", pattern("packed, causal"), inputs())


@pytest.mark.slow
def test_every_pattern(any_pattern, inputs, check):
  check("splash", any_pattern, inputs())
