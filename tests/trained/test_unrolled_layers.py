"""Scanned layers taken apart compute the same."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models import Transformer, TransformerConfig
from t5x_style.trained import unrolled_layers

BATCH = {
  "encoder_input_tokens": jnp.array([[3, 4, 5, 6, 7]]),
  "decoder_input_tokens": jnp.array([[0, 8, 9, 10]]),
}
MODELS = {
  "t5": {"num_encoder_layers": 2, "num_decoder_layers": 3},
  # One layer comes before two cycles of three.
  "cycles": {
    "num_encoder_layers": 7,
    "positions": "rotary",
    "attention_windows": (None, 1, 2),
  },
}


@pytest.mark.parametrize(
  "name", [pytest.param(x, marks=[pytest.mark.slow] if x == "t5" else []) for x in MODELS]
)
def test_the_logits_are_the_same(name):
  config = TransformerConfig(
    vocab_size=32, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=16, **MODELS[name]
  )
  params = nn.meta.unbox(Transformer(config).init(jax.random.key(1), BATCH)["params"])
  before = Transformer(config).apply({"params": params}, BATCH).logits()
  unrolled, apart = unrolled_layers.unroll(config, params)
  assert unrolled == dataclasses.replace(config, scan_layers=False)
  after = Transformer(unrolled).apply({"params": apart}, BATCH).logits()
  np.testing.assert_allclose(after, before, atol=1e-5)


def test_shared_and_very_many_layers_stay_scanned():
  sizes = {"vocab_size": 32, "emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 16}
  for changes in (
    {"num_encoder_layers": 2, "share_layers": True},
    {"num_decoder_layers": 80},
    {"num_decoder_layers": 2, "scan_layers": False},
  ):
    config, params = TransformerConfig(**sizes, **changes), {"layers": np.ones(2)}
    assert unrolled_layers.unroll(config, params) == (config, params)
