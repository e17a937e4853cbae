"""The shapes of a model's parameters, without computing any."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from t5x_style.models.config import TransformerConfig
from t5x_style.models.transformer import Transformer


@functools.lru_cache(maxsize=8)
def boxed_parameters(config: TransformerConfig) -> Any:
  """Returns the tree of parameters as abstract arrays in boxes with their logical axes."""
  tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)  # Parameters do not depend on a batch's size.
  batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
  return jax.eval_shape(Transformer(config).init, jax.random.key(0), batch)["params"]


def abstract_parameters(config: TransformerConfig) -> Any:
  """Returns the tree of parameters as abstract arrays."""
  return nn.meta.unbox(boxed_parameters(config))
