"""Attention by blocks against float64: in loops and unrolled, in parts, on meshes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models.attention_kernels import cpu_blocks
from t5x_style.models.attention_kernels.pattern import AttentionInputs, Pattern

SEGMENTS = np.array([[1] * 90 + [2] * 70 + [0] * 40, [1] * 130 + [2] * 70])

in_every_form = pytest.mark.usefixtures("form")


@pytest.fixture(params=["heads", pytest.param("rows", marks=pytest.mark.slow), "unrolled"])
def form(request, monkeypatch):
  """Makes blocks of one head, of all heads of one or two rows, or unrolled ones of a row.

  Rows of 200 tokens are cut into three parts.
  """
  head = 4 * 200 * 200 * 2  # the bytes of a key head's logits
  sizes = {"heads": (head, 0), "rows": (4 * head, 0), "unrolled": (head, 8)}[request.param]
  monkeypatch.setattr(cpu_blocks, "_BLOCK_BYTES", sizes[0])
  monkeypatch.setattr(cpu_blocks, "_MOST_UNROLLED", sizes[1])
  monkeypatch.setattr(cpu_blocks, "_FEWEST_QUERIES", 60)
  return request.param


@in_every_form
def test_every_pattern(any_pattern, inputs, check):
  check("blocked", any_pattern, inputs(), with_bias=True, soft_cap=2.0)


@pytest.mark.parametrize(("key_heads", "rows"), [(1, 1), (2, 1), (4, 1), (4, 2)])
def test_blocks_of_every_shape(inputs, check, monkeypatch, key_heads, rows):
  monkeypatch.setattr(cpu_blocks, "_BLOCK_BYTES", key_heads * rows * 4 * 2 * 200 * 200)
  monkeypatch.setattr(cpu_blocks, "_MOST_UNROLLED", 0)
  monkeypatch.setattr(cpu_blocks, "_FEWEST_QUERIES", 60)
  segments = jnp.tile(SEGMENTS, (2, 1))
  pattern = Pattern(segments, segments, causal=True)
  given = inputs(N=8, K=4, rows=4)
  static = cpu_blocks._static(None, (), {"query": given[0], "key": given[1]})
  assert (static.key_heads, static.rows, static.unrolled) == (key_heads, rows, False)
  check("blocked", pattern, given, with_bias=True)


def test_queries_that_see_no_key(inputs):
  query, key, value, cotangent, bias = inputs()
  pattern = Pattern(key_segments=jnp.array([[0] * 200, [1] * 200]))
  mask = pattern.mask(200, 200)

  def run(query, key, value, bias):
    return cpu_blocks.attend(query, key, value, AttentionInputs(pattern, mask, bias), 1.0, None)

  out, pull = jax.vjp(run, query, key, value, bias)
  assert (out[0] == 0).all() and (out[1] != 0).all()
  for gradient in pull(cotangent)[:3]:
    assert (gradient[0] == 0).all() and (gradient[1] != 0).any()


@in_every_form
def test_without_bias_and_cap(inputs, pattern, check):
  check("blocked", pattern("causal"), inputs())


@in_every_form
@pytest.mark.parametrize(("L", "S", "K"), [(7, 5, 1), (1, 9, 4), (230, 133, 2)])
def test_cross_attention_of_odd_lengths(inputs, check, L, S, K):
  keys = jnp.array([[1] * (S - 3) + [0] * 3, [1] * S])
  check("blocked", Pattern(key_segments=keys), inputs(L, S, K=K), with_bias=True)


@in_every_form
def test_in_bfloat16(inputs, pattern, check):
  check("blocked", pattern("packed"), inputs(), with_bias=True, dtype="bfloat16", atol=0.02)


@in_every_form
def test_documents_are_apart(inputs, pattern, check_documents_are_apart):
  check_documents_are_apart("blocked", pattern("packed, causal"), inputs(), with_bias=True)


def test_loops_never_hold_all_logits(inputs):
  query, key, value, *_ = inputs(400, 400, rows=12, K=4)

  def loss(query, key, value):
    return (cpu_blocks.attend(query, key, value, AttentionInputs(Pattern()), 1.0, None) ** 2).sum()

  program = jax.jit(jax.grad(loss, (0, 1, 2))).lower(query, key, value).compile()
  assert program.memory_analysis().temp_size_in_bytes < 4 * 12 * 4 * 400 * 400 / 2


def test_parts_leave_out_what_is_hidden(pattern, monkeypatch):
  monkeypatch.setattr(cpu_blocks, "_FEWEST_QUERIES", 60)
  keys = lambda name: [x[2:] for x in cpu_blocks._parts(pattern(name), 200, 200, 1)]
  assert keys("causal") == keys("packed, causal") == [(0, 66), (0, 133), (0, 200)]
  assert keys("window") == [(0, 103), (29, 170), (96, 200)]
  assert keys("window, causal") == [(0, 66), (29, 133), (96, 200)]
  assert keys("window, packed, prefix") == keys("window")
  assert keys("packed, prefix") == keys("padding") == [(0, 200)]


def test_long_rows_are_cut(pattern):
  sizes = lambda *lengths: {a - b for b, a, *_ in cpu_blocks._parts(pattern("both ways"), *lengths)}
  assert sizes(512, 512, 1) == {512}
  assert sizes(512, 512, 4) == {256}
  assert sizes(2048, 2048, 1) == {256}
  assert sizes(64, 2**20, 1) == {64}


def test_on_meshes(errors_on_meshes):
  # 32 roundings of float32; up to 160 terms are summed.
  assert max(errors_on_meshes("blocked")) < 2.0**-19
