"""Tiny models with random parameters, and rows of different lengths."""

import jax
import numpy as np
import pytest

from t5x_style.models import Transformer, TransformerConfig
from tests.tiny import FAMILIES


@pytest.fixture(scope="session")
def tiny_model():
  """tiny_model(architecture, **changes) returns (model, parameters)."""

  def build(architecture, **changes):
    sizes = {"vocab_size": 96, "emb_dim": 32, "num_heads": 2, "head_dim": 16, "mlp_dim": 64}
    model = Transformer(TransformerConfig(**{**sizes, **FAMILIES[architecture], **changes}))
    batch = {}
    if architecture != "decoder_only":
      batch["encoder_input_tokens"] = np.ones((1, 4), np.int32)
    if architecture != "encoder_only":
      batch["decoder_input_tokens"] = np.ones((1, 4), np.int32)
    boxed = jax.jit(model.init)(jax.random.key(0), batch)["params"]
    return model, jax.tree.map(lambda x: x.value, boxed, is_leaf=lambda x: hasattr(x, "names"))

  return build


@pytest.fixture
def random_rows():
  """random_rows(lengths) returns rows of random ids from 5 on, the same at every call."""

  def rows(lengths, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(5, 96, n).tolist() for n in lengths]

  return rows
