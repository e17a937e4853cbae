"""Shapes of parameters are those of the parameters that a model is initialised with."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from t5x_style.models import Transformer, TransformerConfig
from t5x_style.models.parameter_shapes import abstract_parameters, boxed_parameters

SIZES = {"vocab_size": 8, "emb_dim": 4, "num_heads": 2, "head_dim": 2, "mlp_dim": 6}
MODELS = {
  "encoder_decoder": {"num_encoder_layers": 2, "num_decoder_layers": 3, "tie_embeddings": False},
  "decoder_only": {"num_decoder_layers": 2, "positions": "learned", "scan_layers": False},
  "encoder_only": {"num_encoder_layers": 1, "num_token_types": 2, "pooled_classes": 2},
}


@pytest.mark.parametrize("architecture", MODELS)
def test_a_model_is_initialised_with_these_shapes(architecture):
  """Shapes do not depend on the length of rows or on the other side's features."""
  config = TransformerConfig(**SIZES, **MODELS[architecture])
  assert config.architecture == architecture
  tokens = jnp.ones((2, 5), jnp.int32)
  sides = ["encoder"] * bool(config.num_encoder_layers) + ["decoder"] * bool(
    config.num_decoder_layers
  )
  batch = {f"{side}_input_tokens": tokens for side in sides}
  params = nn.meta.unbox(Transformer(config).init(jax.random.key(0), batch)["params"])
  wanted = jax.tree.map(lambda x: (x.shape, x.dtype), params)
  assert jax.tree.map(lambda x: (x.shape, x.dtype), abstract_parameters(config)) == wanted


def test_boxes_name_the_axes():
  config = TransformerConfig(**SIZES, num_decoder_layers=2)
  boxed = boxed_parameters(config)
  assert boxed["token_embed"]["embedding"].names == ("vocab", "embed")
