"""FLOPs by formula against the matrix products that are traced, and windows against their masks."""

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models import Experts, Transformer, TransformerConfig
from t5x_style.models.attention_kernels.pattern import Pattern
from t5x_style.training.flops import step_flops

SIZES = {"vocab_size": 40, "emb_dim": 24, "num_heads": 4, "head_dim": 8, "mlp_dim": 36}
ENCODER, DECODER = 10, 6
MODELS = {
  "bert": {"num_encoder_layers": 2, "head_transform": True, "pooled_classes": 3},
  "albert": {
    "num_encoder_layers": 3,
    "share_layers": True,
    "factorized_dim": 16,
    "head_transform": True,
  },
  "factorized, untied": {
    "num_decoder_layers": 1,
    "factorized_dim": 16,
    "tie_embeddings": False,
    "mlp_activations": ("relu",),
  },
  "llama": {"num_decoder_layers": 2, "num_kv_heads": 2, "tie_embeddings": False},
  "t5": {"num_encoder_layers": 3, "num_decoder_layers": 2},
  # With so few tokens no row is padding, and only the products of real choices are computed.
  "experts": {
    "num_encoder_layers": 3,
    "num_decoder_layers": 2,
    "experts": Experts(num_experts=5, experts_per_token=2, every=2, mlp_dim=20),
  },
}


def traced_flops(jaxpr):
  """Counts 2 M K N of every matrix product; one in a scan counts once for each iteration."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      shape = equation.invars[0].aval.shape
      products = np.prod([shape[i] for i in contracted])
      total += 2 * products * equation.outvars[0].aval.size
    rounds = equation.params["length"] if equation.primitive.name == "scan" else 1
    total += rounds * sum(map(traced_flops, jax.extend.core.jaxprs_in_params(equation.params)))
  return total


@pytest.mark.parametrize("name", MODELS)
def test_every_matrix_product_is_counted(name):
  config = TransformerConfig(**SIZES, **MODELS[name], positions="rotary")
  model, lengths, batch = Transformer(config), {}, {}
  if config.num_encoder_layers:
    lengths["encoder_length"] = ENCODER
    batch["encoder_input_tokens"] = jnp.ones((1, ENCODER), jnp.int32)
  if config.num_decoder_layers:
    lengths["decoder_length"] = DECODER
    batch["decoder_input_tokens"] = jnp.ones((1, DECODER), jnp.int32)
  variables = jax.eval_shape(model.init, jax.random.key(0), batch)

  def forward(variables, batch):
    out = model.apply(variables, batch)
    return out.logits(), out.pooled_logits

  traced = traced_flops(jax.make_jaxpr(forward)(variables, batch).jaxpr)
  # The half of causal attention that is computed and not counted.
  traced -= 0.5 * config.num_decoder_layers * 4 * 4 * 8 * DECODER**2
  assert step_flops(config, 5, **lengths) == 3 * 5 * traced


@pytest.mark.parametrize("window", [1, 4, 9, 50])
def test_windows_count_the_pairs_that_their_masks_show(window):
  layers = {"num_encoder_layers": 4, "positions": "rotary"}
  full = TransformerConfig(**SIZES, **layers)
  local = TransformerConfig(**SIZES, **layers, attention_windows=(None, window, window))
  hidden = ENCODER**2 - int(Pattern(window=window).mask(ENCODER, ENCODER).sum())
  difference = step_flops(full, 1, ENCODER) - step_flops(local, 1, ENCODER)
  assert difference == 3 * 2 * 4 * (4 * 8) * hidden  # Two of the four layers are local.
