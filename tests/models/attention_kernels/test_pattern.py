"""Masks of patterns, compared with matrices written by hand."""

import jax.numpy as jnp
import numpy as np

from t5x_style.models.attention_kernels.pattern import Pattern


def test_a_packed_causal_mask_is_that_of_the_docstring():
  segments = jnp.array([[1, 1, 2, 2, 0]])
  mask = Pattern(segments, segments, causal=True).mask(5, 5)
  np.testing.assert_array_equal(
    mask[0, 0].astype(int),
    [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]],
  )


def test_a_prefix_sees_itself_in_both_directions():
  mask = Pattern(prefix=jnp.array([[1, 1, 1, 0, 0]]), causal=True).mask(5, 5)
  np.testing.assert_array_equal(
    mask[0, 0].astype(int),
    [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]],
  )


def test_a_window_is_that_of_the_docstring():
  mask = Pattern(window=1).mask(5, 5)
  np.testing.assert_array_equal(
    mask[0, 0].astype(int),
    [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 1, 1]],
  )


def test_a_cached_query_sees_the_window_before_it():
  pattern = Pattern(causal=True, window=2, query_start=jnp.int32(4))
  np.testing.assert_array_equal(pattern.mask(1, 7)[0, 0].astype(int), [[0, 0, 1, 1, 1, 0, 0]])


def test_no_mask_where_all_is_seen():
  assert Pattern().mask(4, 4) is None


def test_queries_that_see_no_key():
  segments = jnp.array([[1, 1, 2, 0]])
  assert Pattern().sees_any_key() is None
  queries = jnp.array([[1, 3, 2, 0]])  # No key has the id 3.
  for pattern, expected in (
    (Pattern(segments, segments), [1, 1, 1, 0]),
    (Pattern(queries, segments), [1, 0, 1, 0]),
    (Pattern(key_segments=segments), [1]),
    (Pattern(key_segments=jnp.zeros((1, 4), jnp.int32)), [0]),
  ):
    np.testing.assert_array_equal(pattern.sees_any_key().astype(int), [expected])
