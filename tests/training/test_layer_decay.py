"""Layer-wise decay: which parameter has which rate, and what does not change."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t5x_style.errors import UserError
from t5x_style.models import TransformerConfig
from t5x_style.training import layer_decay, setup
from t5x_style.training.state import named_leaves
from tests import tiny

SIZES = {"vocab_size": 8, "emb_dim": 4, "num_heads": 1, "head_dim": 4, "mlp_dim": 4}


def scales(**fields):
  config = TransformerConfig(**SIZES, **fields)
  found = named_leaves(layer_decay.layer_scales(config, 0.5))
  return {name: np.asarray(x).ravel().tolist() for name, x in found.items()}


def test_rates_rise_from_the_embeddings_to_the_heads():
  found = scales(
    num_encoder_layers=2,
    positions="learned",
    embedding_norm=True,
    head_transform=True,
    pooled_classes=2,
  )
  assert found["token_embed/embedding"] == found["position_embed/embedding"] == [1 / 8]
  assert found["embed_norm/scale"] == [1 / 8]
  assert found["encoder/layers/mlp/wi_0/kernel"] == [1 / 4, 1 / 2]
  assert found["encoder/final_norm/scale"] == [1 / 2]
  assert found["head/transform/kernel"] == found["pooler/classes/kernel"] == [1.0]


def test_a_decoder_comes_after_its_encoder():
  found = scales(num_encoder_layers=2, num_decoder_layers=1, tie_embeddings=False)
  assert found["token_embed/embedding"] == [1 / 16]
  assert found["encoder/layers/mlp/wo/kernel"] == [1 / 8, 1 / 4]
  assert found["encoder/relative_bias/embedding"] == [1 / 8]
  assert found["decoder/layers/mlp/wo/kernel"] == [1 / 2]
  assert found["head/kernel"] == [1.0]


@pytest.mark.parametrize("windows", [(None,), (None, 2, 2)])
def test_scanned_layers_have_the_rates_of_unrolled_ones(windows):
  fields = {"num_encoder_layers": 5, "attention_windows": windows, "positions": "rotary"}
  one_by_one, stacked = (scales(**fields, scan_layers=scan) for scan in (False, True))
  rates = [one_by_one[f"encoder/layers_{i}/mlp/wo/kernel"][0] for i in range(5)]
  assert rates == [0.5**5, 0.5**4, 0.5**3, 0.5**2, 0.5]
  kernels = [x for name, x in stacked.items() if name.endswith("mlp/wo/kernel")]
  assert sorted(rate for kernel in kernels for rate in kernel) == rates
  if len(windows) == 3:  # Two layers come before a cycle of three.
    assert stacked["encoder/layers/block_1/mlp/wo/kernel"] == rates[3:4]


@pytest.mark.slow
def test_updates_and_weight_decay_are_scaled_and_the_state_is_not(tmp_path):
  config = tiny.config("encoder_only", tmp_path)
  plain, decayed = (
    setup.make_optimizer(dataclasses.replace(config, layer_decay=decay)) for decay in (None, 0.5)
  )
  shapes = layer_decay.abstract_parameters(config.model)
  params = jax.tree.map(lambda x: jnp.ones(x.shape), shapes)
  grads = jax.tree.map(lambda x: jnp.sin(jnp.arange(x.size) + 1.0).reshape(x.shape), shapes)
  updates, state = plain.update(grads, plain.init(params), params)
  scaled, scaled_state = decayed.update(grads, decayed.init(params), params)
  jax.tree.map(np.testing.assert_array_equal, state, scaled_state)
  before, after = named_leaves(updates), named_leaves(scaled)
  np.testing.assert_allclose(
    after["token_embed/embedding"], before["token_embed/embedding"] / 8, rtol=1e-6
  )
  kernel = "encoder/layers/mlp/wo/kernel"
  np.testing.assert_allclose(after[kernel][0], before[kernel][0] / 4, rtol=1e-6)
  np.testing.assert_allclose(after[kernel][1], before[kernel][1] / 2, rtol=1e-6)
  assert optax.tree.norm(before["head/bias"]) > 0
  np.testing.assert_array_equal(after["head/bias"], before["head/bias"])


def test_shared_layers_are_refused():
  with pytest.raises(UserError, match="LAYER_DECAY = 0.5: the layers of this model share"):
    scales(num_encoder_layers=2, share_layers=True)
