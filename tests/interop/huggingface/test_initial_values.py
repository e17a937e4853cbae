"""The shipped models begin as those of transformers do, but where the papers' own code differs."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from launch.configuration.gin_values import GinValues
from launch.conversion import model_gin
from t5x_style.interop.huggingface import config_export
from t5x_style.interop.huggingface.model_folder import open_folder
from t5x_style.models import Transformer

LAYERS = 4
# What is left of the deviation of a normal that is cut at two deviations.
CUT = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))
# {model: (factor of every kernel and table, {part of a name: factor instead})}, relative to
# transformers. BERT's and ALBERT's own code cuts, transformers does not. ModernBERT's own code has
# the whole deviation for the last transform.
MODELS = {
  "gpt2/small": (1.0, {}),
  "bart/base": (1.0, {}),
  "bert/base": (CUT, {}),
  "roberta/base": (1.0, {}),
  "albert/base": (CUT, {}),
  "modernbert/base": (1.0, {"head/transform": math.sqrt(2 * LAYERS)}),
  "llama3/8b": (1.0, {}),
  "qwen3/0_6b": (1.0, {}),
}


def small(name):
  config = model_gin.transformer_config(GinValues([f"models/{name}.gin"]))
  layers = {
    side: LAYERS for side in ("num_encoder_layers", "num_decoder_layers") if getattr(config, side)
  }
  return dataclasses.replace(
    config,
    **layers,
    vocab_size=500,
    emb_dim=64,
    num_heads=4,
    head_dim=16,
    num_kv_heads=config.num_kv_heads and 2,
    mlp_dim=96,
    max_length=100,
    factorized_dim=config.factorized_dim and 32,
  )


def initial(config):
  """Returns {name: array} of a new model."""
  batch = {
    f"{side}_input_tokens": jnp.ones((1, 8), int)
    for side in ("encoder", "decoder")
    if getattr(config, f"num_{side}_layers")
  }
  params = jax.jit(Transformer(config).init)(jax.random.key(0), batch)["params"]
  return traverse_util.flatten_dict(nn.meta.unbox(params), sep="/")


@pytest.mark.parametrize("name", MODELS)
def test_initial_values(name, tmp_path, read_parameters):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  config = small(name)
  _, settings = config_export.choose_family(config)
  kind = getattr(transformers, settings["architectures"][0])
  torch.manual_seed(0)
  kind(kind.config_class.from_dict(settings)).save_pretrained(tmp_path)
  theirs = {"/".join(k): x for k, x in read_parameters(open_folder(tmp_path)).items()}
  ours, (factor, others) = initial(config), MODELS[name]
  assert ours.keys() == theirs.keys()
  for key, x in ours.items():
    there = theirs[key].astype(np.float64)
    if key.endswith(("scale", "bias")):
      np.testing.assert_array_equal(x, there, err_msg=key)
      continue
    expected = there.std() * next((f for part, f in others.items() if part in key), factor)
    # Five deviations of the quotient of two estimates, and the row of padding that is zero there.
    tolerance = 5 / math.sqrt(x.size) + 1 / x.shape[0] * ("embed" in key)
    assert x.std() == pytest.approx(expected, rel=tolerance), key
