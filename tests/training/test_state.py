"""A new state has the shapes, dtypes, shardings and bytes that were planned."""

import jax
import pytest

from t5x_style.training import optimizers, setup
from t5x_style.training.state import named_leaves, state_bytes


@pytest.mark.parametrize("optimizer", [optimizers.adamw, optimizers.adafactor])
def test_a_new_state_has_the_planned_shapes_and_sizes(optimizer, tiny_config, tmp_path):
  prepared = setup.prepare(tiny_config("encoder_only", tmp_path, optimizer=optimizer))
  state = prepared.init(0)
  planned = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), prepared.abstract)
  assert jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), state) == planned
  held = sum(x.nbytes for x in jax.tree.leaves((state.params, state.params, state.opt_state)))
  assert state_bytes(prepared.config.model, prepared.optimizer) == held


def test_the_seed_decides_the_parameters(tiny_config, tmp_path):
  prepared = setup.prepare(tiny_config("decoder_only", tmp_path))
  first, again, other = (prepared.init(seed).params for seed in (0, 0, 1))
  equal = jax.tree.map(lambda x, y: bool((x == y).all()), first, again)
  assert all(jax.tree.leaves(equal))
  embedding = lambda params: params["token_embed"]["embedding"]
  assert not (embedding(first) == embedding(other)).any()


def test_leaves_are_named_by_their_path_in_the_order_of_jax():
  tree = {"b": [1, {"kernel": 2}], "a": {"scale": 3}}
  assert named_leaves(tree) == {"a/scale": 3, "b/0": 1, "b/1/kernel": 2}
  assert list(named_leaves(tree).values()) == jax.tree.leaves(tree)
