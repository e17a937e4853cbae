"""Which pairs of blocks are left out, and the merging of parts of a softmax."""

import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models.attention_kernels import blockwise
from t5x_style.models.attention_kernels.blockwise import Rules

Q, K = 8, 4  # tokens of a block


def pair(first_query, first_key, query=None, key=None):
  """Returns a block of Q queries and one of K keys, with further features [1, Q] and [1, K]."""
  sizes = {"query": jnp.zeros((1, 1, 1, Q, 2))}, {"key": jnp.zeros((1, 1, K, 2))}
  starts = {"start": jnp.int32(first_query)}, {"start": jnp.int32(first_key)}
  more = ({k: jnp.array([v]) for k, v in (x or {}).items()} for x in (query, key))
  return tuple(a | b | c for a, b, c in zip(sizes, starts, more, strict=True))


@pytest.mark.parametrize(
  ("rules", "first_key", "seen"),
  [
    (Rules(True, None, None), 107, True),  # The queries are 100 to 107.
    (Rules(True, None, None), 108, False),
    (Rules(False, None, None), 500, True),
    (Rules(False, 10, None), 117, True),
    (Rules(False, 10, None), 118, False),
    (Rules(True, 10, None), 87, True),
    (Rules(True, 10, None), 86, False),
  ],
)
def test_pairs_are_left_out_by_position(rules, first_key, seen):
  assert bool(blockwise.any_seen(rules, *pair(100, first_key))) == seen


@pytest.mark.parametrize(
  ("query", "key", "seen"),
  [
    ([2, 2, 2, 2, 3, 3, 3, 3], [3, 3, 4, 4], True),
    ([2, 2, 2, 2, 3, 3, 3, 3], [4, 4, 0, 0], False),
    ([2, 2, 2, 2, 3, 3, 3, 3], [1, 1, 2, 2], True),
    ([2, 2, 2, 2, 3, 3, 3, 3], [1, 1, 1, 1], False),
    ([3, 3, 3, 3, 0, 0, 0, 0], [0, 0, 0, 0], False),
    ([0, 0, 0, 0, 0, 0, 0, 0], [4, 4, 0, 0], False),
    (None, [0, 0, 0, 0], False),
    (None, [1, 0, 0, 0], True),
  ],
)
def test_pairs_of_other_documents_are_left_out(query, key, seen):
  queries = {} if query is None else {"segments": query}
  blocks = pair(0, 0, queries, {"segments": key})
  assert bool(blockwise.any_seen(Rules(False, None, None), *blocks)) == seen


def test_a_prefix_is_seen_from_before():
  marks = {"prefix": [0] * (Q - 1) + [1]}, {"prefix": [1, 0, 0, 0]}
  assert blockwise.any_seen(Rules(True, None, None), *pair(0, 50, *marks))
  nothing = marks[0], {"prefix": [0, 0, 0, 0]}
  assert not blockwise.any_seen(Rules(True, None, None), *pair(0, 50, *nothing))


def test_parts_of_a_softmax_are_merged():
  rng = np.random.default_rng(0)
  logits, values = rng.normal(size=(3, 10)) * 5, rng.normal(size=(10, 4))

  def attention(keys):
    weights = np.exp(logits[:, keys])
    out = weights @ values[keys] / weights.sum(-1, keepdims=True)
    return jnp.asarray(out), jnp.asarray(np.log(weights.sum(-1)))

  out, lse = blockwise.merge(attention(slice(0, 4)), attention(slice(4, 10)))
  expected = attention(slice(0, 10))
  np.testing.assert_allclose(out, expected[0], atol=1e-5)
  np.testing.assert_allclose(lse, expected[1], rtol=1e-6)


def test_nothing_is_merged_with_something():
  nothing = jnp.zeros((1, 4)), jnp.full((1,), blockwise.NOTHING)
  some = jnp.ones((1, 4)), jnp.array([-3.0])
  for one, other in ((nothing, some), (some, nothing)):
    out, lse = blockwise.merge(one, other)
    assert (out == 1).all() and lse == -3.0
  assert (blockwise.merge(nothing, nothing)[0] == 0).all()
