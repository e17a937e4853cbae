"""Slices of a bias by distance, spread over pairs of blocks, and the sums that undo it."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

from t5x_style.models.attention_kernels import tpu_block_bias

BLOCK = 128


def distances(apart):
  """Returns the distances of keys [1, BLOCK] from queries [BLOCK, 1], of blocks so far apart."""
  return apart * BLOCK + np.arange(BLOCK) - np.arange(BLOCK)[:, None]


def interpreted(kernel, *arrays, shape):
  def run(*refs):
    refs[-1][...] = kernel(*(ref[...] for ref in refs[:-1]))

  return pl.pallas_call(run, jnp.zeros(shape), interpret=True)(*arrays)


@pytest.mark.parametrize("reach", [20, 300])
def test_slices_have_the_bias_of_every_distance(reach):
  bias = np.random.default_rng(0).normal(size=(2, 2 * reach + 1)).astype(np.float32)
  slices = np.asarray(tpu_block_bias.slices(jnp.asarray(bias), BLOCK))
  count = tpu_block_bias.near_blocks(bias, BLOCK)
  assert slices.shape[1] == count
  for apart in range(-5, 6):
    own = slices[:, np.clip(apart + count // 2, 0, count - 1)]
    expected = bias[:, np.clip(distances(apart), -reach, reach) + reach]
    found = own[:, BLOCK - 1 - np.arange(BLOCK)[:, None] + np.arange(BLOCK)]
    np.testing.assert_array_equal(found, expected)
  for end in (0, -1):  # All that are further away have these.
    assert (slices[:, end, : 2 * BLOCK - 1] == slices[:, end, :1]).all()


def test_a_slice_is_spread_over_a_pair():
  near = jnp.arange(2.0 * BLOCK)[None]
  for is_far, expected in ((False, distances(0) + BLOCK - 1), (True, np.arange(BLOCK)[None])):
    kernel = lambda near, far=is_far: tpu_block_bias.spread(near, jnp.bool_(far), BLOCK)
    found = interpreted(kernel, near, shape=(BLOCK, BLOCK))
    np.testing.assert_array_equal(found, np.broadcast_to(expected, (BLOCK, BLOCK)))


def test_sums_are_over_pairs_of_the_same_distance():
  by_logits = np.random.default_rng(0).integers(-9, 9, (BLOCK, BLOCK)).astype(np.float32)
  found = interpreted(tpu_block_bias.sums_by_distance, by_logits, shape=(1, 2 * BLOCK))
  index = (distances(0) + BLOCK - 1).ravel()
  expected = np.bincount(index, by_logits.ravel(), minlength=2 * BLOCK)
  np.testing.assert_array_equal(found[0], expected)
