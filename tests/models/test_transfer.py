"""Hyperparameters that transfer: each parameter's scale, and activations that stay alike."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models import Transformer, TransformerConfig
from t5x_style.models.experts import Experts
from t5x_style.models.parameter_shapes import abstract_parameters
from t5x_style.models.transfer import (
  path_names,
  transferred_scale,
  transfers,
  with_transferred_scale,
)
from t5x_style.training import optimizers, schedules
from t5x_style.training.transferred_rates import with_transferred_rates
from tests.shipped import OPTIMIZERS, peak_learning_rate

# The base model of all tests: width 64 in 4 heads of 16, one layer in each stack.
BASE = {"vocab_size": 32, "emb_dim": 64, "num_heads": 4, "head_dim": 16, "mlp_dim": 128}
T5 = {"num_encoder_layers": 1, "num_decoder_layers": 1, "scale_attention": False}
GPT2 = {
  "num_decoder_layers": 1,
  "positions": "learned",
  "norm": "layer",
  "use_bias": True,
  "mlp_activations": ("gelu",),
  "scale_logits": False,
  "kernel_init_std": 0.02,
  "embedding_init_std": 0.02,
  "scale_residual_init": True,
}
BERT = {
  "num_encoder_layers": 1,
  "positions": "learned",
  "norm": "layer",
  "norm_position": "post",
  "use_bias": True,
  "mlp_activations": ("gelu_exact",),
  "num_token_types": 2,
  "embedding_norm": True,
  "head_transform": True,
  "head_bias": True,
  "scale_logits": False,
  "kernel_init_std": 0.02,
  "embedding_init_std": 0.02,
}
LLAMA = {
  "num_decoder_layers": 1,
  "positions": "rotary",
  "num_kv_heads": 2,
  "qk_norm": True,
  "tie_embeddings": False,
}
FAMILIES = {"T5": T5, "T5 1.1": T5 | {"tie_embeddings": False}, "GPT-2": GPT2, "BERT": BERT}
FAMILIES["Llama"] = LLAMA
FAMILIES["experts"] = {
  "num_decoder_layers": 1,
  "positions": "rotary",
  "tie_embeddings": False,
  "experts": Experts(num_experts=4, experts_per_token=2),
}


def wide(family, times, wider_heads=1, **changes):
  """Returns a family's model that is this many times wider than its base model."""
  fields = {
    **BASE,
    **family,
    "emb_dim": 64 * times,
    "mlp_dim": 128 * times,
    "head_dim": 16 * wider_heads,
    "num_heads": 4 * times // wider_heads,
  }
  return TransformerConfig(**(fields | changes))


def scales(config):
  """Returns {name: Scale} of all parameters."""
  leaves = jax.tree_util.tree_leaves_with_path(abstract_parameters(config))
  return {
    "/".join(path_names(path)): transferred_scale(config, path_names(path), leaf.shape)
    for path, leaf in leaves
  }


def test_wide_matrices_learn_more_slowly_and_tables_do_not():
  """The columns of table 3 of Tensor Programs V, for a T5 that is four times wider."""
  found = scales(wide(T5, 4, base_emb_dim=64, base_head_dim=16, tie_embeddings=False))
  rates = {name: scale.rate for name, scale in found.items()}
  assert rates["token_embed/embedding"] == 1
  assert rates["encoder/relative_bias/embedding"] == rates["decoder/final_norm/scale"] == 1
  for name in ("self_attention/query", "cross_attention/value", "self_attention/out"):
    assert rates[f"decoder/layers/{name}/kernel"] == 1 / 4
  assert rates["decoder/layers/mlp/wi_1/kernel"] == rates["decoder/layers/mlp/wo/kernel"] == 1 / 4
  assert rates["head/kernel"] == found["head/kernel"].deviation == 1 / 4
  # 1/sqrt(fan in) of the initializers is half of what it was, as it should be; not so in the head.
  assert found["decoder/layers/mlp/wo/kernel"][:2] == (1.0, 1 / 2)
  assert found["head/kernel"].initial == 1 / 2


def test_fixed_deviations_shrink_with_the_width():
  config = wide(GPT2, 4, base_emb_dim=64)
  found = scales(config)
  assert found["decoder/layers/mlp/wi/kernel"] == (1 / 2, 1 / 2, 1 / 4)
  assert found["decoder/layers/mlp/wi/bias"] == (1, 1, 1)
  assert found["position_embed/embedding"] == (1, 1, 1)
  assert config.tied_logit_factor == 1 / 4  # The table is an embedding: the model has the factor.
  untied = scales(dataclasses.replace(config, tie_embeddings=False))
  assert untied["head/kernel"] == (1 / 4, 1 / 4, 1 / 4)


def test_routers_start_and_learn_as_the_head_does():
  found = scales(wide(FAMILIES["experts"], 4, base_emb_dim=64))
  router = found["decoder/layers/mlp/router/kernel"]
  assert router == found["head/kernel"] == (1 / 2, 1 / 4, 1 / 4)
  assert found["decoder/layers/mlp/experts/wo/kernel"] == (1, 1 / 2, 1 / 4)


def test_tied_heads_divide_by_the_width():
  tied = wide(T5, 4, base_emb_dim=64)  # It divides by sqrt(256); the base model by 8.
  assert tied.tied_logit_factor / math.sqrt(256) == 1 / (8 * 4)
  assert wide(T5, 4, base_emb_dim=64, tie_embeddings=False).tied_logit_factor == 1
  factorized = wide(BERT, 4, base_emb_dim=64, factorized_dim=16)
  assert factorized.tied_logit_factor == 1  # The head reads 16 numbers at any width.
  assert scales(factorized)["embed_projection/kernel"] == (1, 1, 1)


@pytest.mark.parametrize("scaled", [True, False])
def test_wider_heads_have_attention_scaled_by_their_width(scaled):
  """Query times the model's own scale: sqrt(base width) / width, beside 1 / sqrt(base width)."""
  config = wide(T5, 4, wider_heads=4, base_emb_dim=64, base_head_dim=16, scale_attention=scaled)
  query = scales(config)["decoder/layers/self_attention/query/kernel"]
  hidden = scales(config)["decoder/layers/self_attention/key/kernel"]
  own = 64**-0.5 if scaled else 1.0
  base = 16**-0.5 if scaled else 1.0
  wanted = math.sqrt(16) / 64 / 16**-0.5  # 1/4 in all
  assert query.rate / hidden.rate * own / base == wanted
  assert query.deviation / hidden.deviation * own / base == wanted


def test_the_norm_of_queries_has_the_scale_of_wider_heads():
  found = scales(wide(LLAMA, 4, wider_heads=4, num_kv_heads=2, base_emb_dim=64, base_head_dim=16))
  assert found["decoder/layers/self_attention/query_norm/scale"] == (1 / 2, 1 / 2, 1 / 2)
  assert found["decoder/layers/self_attention/query/kernel"].rate == 1 / 4


def test_deep_models_have_smaller_branches():
  """CompleteP's 1/layers, in place of GPT-2's 1/sqrt(layers) in the initial values."""
  found = scales(wide(GPT2, 1, num_decoder_layers=4, base_layers=1))
  assert found["decoder/layers/mlp/wo/kernel"] == (1 / 2, 1 / 4, 1 / 4)
  assert found["decoder/layers/self_attention/out/bias"].rate == 1 / 4
  assert found["decoder/layers/mlp/wi/kernel"] == (1, 1, 1)


def test_relative_biases_begin_as_large_with_more_heads():
  """Their initializer is a uniform one, whose variance is 2 / (heads + buckets)."""
  config = wide(T5, 8, base_emb_dim=64)
  found = scales(config)["encoder/relative_bias/embedding"]
  assert found.initial * math.sqrt(2 / (32 + 32)) == pytest.approx(math.sqrt(2 / (4 + 32)))
  assert found.rate == 1


def test_initial_values_are_multiplied():
  config = wide(GPT2, 2, base_emb_dim=64)
  ones = jax.tree.map(lambda x: jnp.ones(x.shape), abstract_parameters(config))
  scaled = with_transferred_scale(config, ones)
  np.testing.assert_allclose(scaled["decoder"]["layers"]["mlp"]["wi"]["kernel"], 0.5**0.5)
  np.testing.assert_array_equal(scaled["token_embed"]["embedding"], 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_base_model_is_unchanged(family):
  config = wide(FAMILIES[family], 1, base_emb_dim=64, base_head_dim=16, base_layers=1)
  assert not transfers(config) and config.tied_logit_factor == 1
  assert set(scales(config).values()) == {(1, 1, 1)}


def test_a_parameter_without_a_rule_is_named():
  with pytest.raises(NotImplementedError, match="decoder/layers/mlp/new/kernel"):
    names = ("decoder", "layers", "mlp", "new", "kernel")
    transferred_scale(wide(T5, 2, base_emb_dim=64), names, (128, 128))


def change_of_logits(config, optimizer=optimizers.adamw, rate=0.001, steps=3):
  """Returns the root mean square by which the first steps change a new model's logits."""
  model = Transformer(config)
  draw = jax.random.split(jax.random.key(0), 3)
  tokens, targets = (jax.random.randint(key, (4, 8), 2, 32) for key in draw[:2])
  batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
  optimizer = with_transferred_rates(optimizer(schedules.constant(rate)), config)

  def loss(params):
    logits = model.apply({"params": params}, batch).logits()
    one_hot = jax.nn.one_hot(targets, 32)
    return -(jax.nn.log_softmax(logits) * one_hot).sum(-1).mean(), logits

  @jax.jit
  def run(params):
    def step(carry, _):
      params, state = carry
      grads, logits = jax.grad(loss, has_aux=True)(params)
      updates, state = optimizer.update(grads, state, params)
      return (jax.tree.map(jnp.add, params, updates), state), logits

    _, logits = jax.lax.scan(step, (params, optimizer.init(params)), length=steps + 1)
    return jnp.sqrt(jnp.mean((logits[-1] - logits[0]) ** 2))

  params = nn.meta.unbox(jax.jit(model.init)(draw[2], batch)["params"])
  return float(run(with_transferred_scale(config, params)))


def check_that_changes_stay_alike(family, optimizer=optimizers.adamw, rate=0.001):
  """The coordinate check (Yang et al. 2022, appendix D.1), at widths 64 and 512."""
  models = wide(family, 1), wide(family, 8, base_emb_dim=64), wide(family, 8)
  narrow, same, grown = (change_of_logits(model, optimizer, rate) for model in models)
  assert 0.5 < same / narrow < 2
  assert grown / narrow > 2.5


@pytest.mark.slow
def test_steps_change_the_logits_as_much_at_width_512_as_at_64():
  """Without the rules they change them much more."""
  check_that_changes_stay_alike(GPT2)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_steps_change_the_logits_of_all_families_alike(family):
  check_that_changes_stay_alike(FAMILIES[family])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "adamw"])
def test_steps_of_all_optimizers_change_the_logits_alike(name):
  rate = {"adafactor": 0.003, "lion": 0.0003}.get(name, peak_learning_rate(name))
  check_that_changes_stay_alike(T5, getattr(optimizers, name), rate)


@pytest.mark.slow
def test_steps_change_the_logits_of_deep_models_alike():
  """CompleteP: 16 layers as two, where a sum of branches changes more."""
  shallow = change_of_logits(wide(T5, 1, num_encoder_layers=2, num_decoder_layers=2), rate=0.0003)
  deep = {"num_encoder_layers": 16, "num_decoder_layers": 16}
  same = change_of_logits(wide(T5, 1, base_layers=2, **deep), rate=0.0003)
  grown = change_of_logits(wide(T5, 1, **deep), rate=0.0003)
  assert 0.5 < same / shallow < 2
  assert grown / shallow > 2
