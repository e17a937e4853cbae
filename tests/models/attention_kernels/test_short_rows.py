"""The kernel for short rows without a TPU: interpreted, against float64."""

import functools

import jax
import jax.numpy as jnp
import pytest

from t5x_style.models.attention_kernels import short_rows
from t5x_style.models.attention_kernels.pattern import AttentionInputs, Pattern
from t5x_style.models.stack import REMAT_POLICIES


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
  """Interprets the kernel in blocks of 112 queries: rows of 200 are padded to two blocks."""
  monkeypatch.setattr(short_rows, "attend", functools.partial(short_rows.attend, interpret=True))
  monkeypatch.setattr(short_rows, "_MOST_QUERIES", 112)


@pytest.mark.parametrize("with_bias", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_pattern(any_pattern, inputs, check, with_bias):
  check("short", any_pattern, inputs(), with_bias=with_bias)


def test_cross_attention_to_padded_rows(inputs, check):
  keys = jnp.array([[1] * 100 + [0] * 33, [1] * 133])
  check("short", Pattern(key_segments=keys), inputs(140, 133, K=1))


@pytest.mark.parametrize(("N", "H"), [(4, 64), (2, 128), (1, 256), (3, 8)])
def test_heads_side_by_side(inputs, pattern, check, N, H):
  check("short", pattern("packed"), inputs(N=N, K=N, H=H), with_bias=True)


def test_a_row_at_once(inputs, pattern, check, monkeypatch):
  monkeypatch.setattr(short_rows, "_MOST_QUERIES", 512)
  check("short", pattern("packed, prefix"), inputs(), with_bias=True)


def test_sizes_of_blocks(monkeypatch):
  monkeypatch.setattr(short_rows, "_MOST_QUERIES", 512)
  lengths = (114, 512, 600, 2048)
  fitting = [short_rows._fitting(2, 64, S, "bfloat16") for S in lengths]
  blocks = [short_rows._block(L, count) for L, count in zip(lengths, fitting, strict=True)]
  assert blocks[:3] == [114, 512, 304]  # The last row has two blocks.
  assert blocks[3] % 16 == 0 and short_rows._FEWEST_QUERIES <= blocks[3] <= fitting[3]


def test_in_bfloat16(inputs, pattern, check):
  check("short", pattern("packed"), inputs(), with_bias=True, dtype="bfloat16", atol=0.02)


def test_documents_are_apart(inputs, pattern, check_documents_are_apart):
  check_documents_are_apart("short", pattern("packed, causal"), inputs(), with_bias=True)


@pytest.mark.parametrize(("policy", "calls"), [("dots", 2), ("full", 3)])
def test_what_is_recomputed(inputs, pattern, policy, calls):
  query, key, value, *_ = inputs()

  def loss(query, key, value):
    out = short_rows.attend(query, key, value, AttentionInputs(pattern("packed")), 1.0, None)
    return (out**2).sum()

  program = jax.make_jaxpr(jax.grad(jax.checkpoint(loss, policy=REMAT_POLICIES[policy])))
  assert str(program(query, key, value)).count("pallas_call[") == calls


def test_on_meshes(errors_on_meshes):
  """The bias' gradient is summed over the rows of all devices, where rows and heads are split."""
  # 32 roundings of float32; up to 160 terms are summed.
  assert max(errors_on_meshes("short")) < 2.0**-19
