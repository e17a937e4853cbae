"""Dropout: where it is, what share it drops, and independently of what; initial values."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models import TransformerConfig
from t5x_style.models.layers import Dropout, Embed, kernel_init

SIZES = {"vocab_size": 64, "emb_dim": 32, "num_heads": 4, "head_dim": 8, "mlp_dim": 48}
RATE = 0.3
ONES = jnp.ones((40, 50, 60))
WHERE = {
  "t5": ("embeddings", "attention", "mlp", "inside_mlp", "end"),
  "bert": ("embeddings", "attention", "mlp"),
  "modernbert": ("attention",),
}


def config(**changes):
  return TransformerConfig(**SIZES, num_encoder_layers=2, **changes)


def dropped(places, place="attention", seed=0):
  """Returns what is left of ones [40, 50, 60]."""
  module = Dropout(config(dropout_rate=RATE, dropout_places=places), place)
  return np.asarray(module.apply({}, ONES, rngs={"dropout": jax.random.key(seed)}))


def assert_share(kept, rate=RATE):
  """Asserts that `kept`, of independent draws, has the share that it should, within 4 sigma."""
  assert abs(kept.mean() - (1 - rate)) < 4 * math.sqrt(rate * (1 - rate) / kept.size)


@pytest.mark.parametrize("places", WHERE)
@pytest.mark.parametrize("place", WHERE["t5"])
def test_where_a_model_has_dropout(places, place):
  left = dropped(places, place)
  if place not in WHERE[places]:
    assert (left == 1).all()
    return
  kept = left > 0
  np.testing.assert_allclose(left[kept], 1 / (1 - RATE), rtol=1e-6)
  assert_share(kept[:, 0])


@pytest.mark.parametrize("places", ["bert", "modernbert"])
def test_elements_are_dropped_independently(places):
  kept = dropped(places) > 0
  assert_share(kept)
  for axis in range(3):  # Neighbours along every axis agree as often as independent draws do.
    first, second = np.delete(kept, -1, axis), np.delete(kept, 0, axis)
    assert_share(first != second, 1 - 2 * RATE * (1 - RATE))


def test_t5_drops_the_same_elements_at_all_positions():
  kept = dropped("t5") > 0
  assert (kept == kept[:, :1]).all()
  assert_share(kept[1:, 0] != kept[:-1, 0], 1 - 2 * RATE * (1 - RATE))


def test_the_seed_decides_and_without_one_nothing_is_dropped():
  np.testing.assert_array_equal(dropped("bert", seed=1), dropped("bert", seed=1))
  assert (dropped("bert", seed=1) != dropped("bert", seed=2)).any()
  module = Dropout(config(dropout_rate=RATE, dropout_places="bert"), "mlp")
  np.testing.assert_array_equal(module.apply({}, ONES), ONES)


@pytest.mark.parametrize("cutoff", [None, 1.5, 2.0])
def test_initial_values_are_cut(cutoff):
  model = config(kernel_init_std=0.02, embedding_init_std=0.05, init_cutoff=cutoff)
  kernel = kernel_init(model, 0.5)(jax.random.key(0), (300, 400), jnp.float32)
  table = Embed(model, 4000).init(jax.random.key(0), jnp.zeros((1, 1), int))
  table = nn.meta.unbox(table)["params"]["embedding"]
  shrink = 1.0
  if cutoff is not None:  # The deviation of a standard normal between -cutoff and cutoff.
    density = math.exp(-(cutoff**2) / 2) / math.sqrt(2 * math.pi)
    shrink = math.sqrt(1 - 2 * cutoff * density / math.erf(cutoff / math.sqrt(2)))
  for x, std in ((kernel, 0.01), (table, 0.05)):
    assert x.std() == pytest.approx(std * shrink, rel=5 / math.sqrt(2 * x.size))
    assert abs(x).max() > (3 if cutoff is None else 0.99 * cutoff) * std
    assert cutoff is None or abs(x).max() <= cutoff * std * (1 + 1e-6)
