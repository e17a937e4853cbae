"""Rates that follow from a base model's: how much each optimizer changes a wide model."""

import jax
import numpy as np
import optax
import pytest

from t5x_style.errors import UserError
from t5x_style.models import TransformerConfig
from t5x_style.models.parameter_shapes import abstract_parameters
from t5x_style.training import optimizers, schedules, setup
from t5x_style.training.state import named_leaves
from t5x_style.training.transferred_rates import rate_factors, with_transferred_rates
from tests import tiny

KERNEL = "decoder/layers/mlp/wi_0/kernel"
RATE = schedules.constant(0.01)


def model(times, **changes):
  """Returns a decoder of width 16 times `times`."""
  sizes = {"vocab_size": 8, "emb_dim": 16 * times, "num_heads": 2 * times, "head_dim": 8}
  return TransformerConfig(
    **{**sizes, "mlp_dim": 32 * times, "num_decoder_layers": 1, "positions": "rotary", **changes}
  )


def update_of(optimizer, config, params, grads):
  """Returns {name: update} of the first step of an optimizer with the rates of `config`."""
  optimizer = with_transferred_rates(optimizer, config)
  updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
  return named_leaves(updates)


def draw(config, deviation=1.0):
  random = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: random.normal(0, deviation, x.shape).astype(np.float32), abstract_parameters(config)
  )


def test_adam_takes_smaller_steps_and_decays_as_before():
  config = model(4, base_emb_dim=16)
  params, grads = draw(config), draw(config)
  found = update_of(optimizers.adamw(RATE, weight_decay=0.5), config, params, grads)
  before, signs = (named_leaves(x) for x in (params, jax.tree.map(np.sign, grads)))
  # The first step of Adam is the rate times the sign of the gradient.
  for name, factor, decay in (
    (KERNEL, 1 / 4, 0.5),
    ("token_embed/embedding", 1, 0.5),
    ("decoder/final_norm/scale", 1, 0),
  ):
    wanted = -0.01 * (factor * signs[name] + decay * before[name])
    np.testing.assert_allclose(found[name], wanted, rtol=1e-3, atol=1e-7)


def relative_change(optimizer, times, one_token=True):
  """Returns the spectral norms of a kernel's first update and of its initial values, divided.

  Args:
    one_token: whether gradients are of rank one, as those of one token are; else they are random.
  """
  config = model(times, base_emb_dim=16)
  params = draw(config, deviation=(16 * times) ** -0.5)
  grads = jax.tree.map(np.ones_like, params) if one_token else draw(config)
  found = update_of(optimizer, config, params, grads)
  update, before = (np.asarray(x[KERNEL][0]) for x in (found, named_leaves(params)))
  return np.linalg.norm(update, 2) / np.linalg.norm(before, 2)


@pytest.mark.parametrize("kind", [optimizers.adafactor, optimizers.lion])
def test_a_matrix_changes_in_proportion_at_any_width(kind):
  """Condition 1 of Yang, Simon & Bernstein 2023: a spectral norm as that of the matrix itself."""
  optimizer = kind(RATE, weight_decay=0.0)
  assert relative_change(optimizer, 8) == pytest.approx(relative_change(optimizer, 1), rel=0.2)


@pytest.mark.slow
def test_an_orthogonal_update_changes_a_matrix_in_proportion():
  optimizer = optimizers.muon(RATE, weight_decay=0.0)
  narrow, wide = (relative_change(optimizer, times, one_token=False) for times in (1, 8))
  assert wide == pytest.approx(narrow, rel=0.25)


def test_factors_of_adafactor_and_muon():
  """At four times the width Adafactor's relative steps are already half as large."""
  config = model(4, base_emb_dim=16, tie_embeddings=False)
  relative, orthogonal = (named_leaves(rate_factors(config, x)) for x in ("relative", "orthogonal"))
  assert relative[KERNEL] == orthogonal[KERNEL] == 1 / 2
  assert relative["head/kernel"] == 1
  assert orthogonal["head/kernel"] == 1 / 4  # Adam has it.
  assert relative["token_embed/embedding"] == orthogonal["token_embed/embedding"] == 1


def test_at_the_base_size_the_optimizer_is_the_same_one():
  optimizer = optimizers.adamw(RATE)
  assert with_transferred_rates(optimizer, model(2)) is optimizer
  assert with_transferred_rates(optimizer, model(2, base_emb_dim=32)) is optimizer


def test_what_cannot_be_carried_over_is_refused():
  wide = model(2, base_emb_dim=16)
  with pytest.raises(UserError, match="how large the updates of this optimizer are"):
    with_transferred_rates(optax.sgd(0.1), wide)
  with pytest.raises(UserError, match="need adafactor.weight_decay = 0"):
    with_transferred_rates(optimizers.adafactor(RATE, weight_decay=0.1), wide)
  absolute = optimizers.adafactor(RATE, weight_decay=0.1, multiply_by_parameter_scale=False)
  assert with_transferred_rates(absolute, wide) is not absolute


@pytest.mark.slow
@pytest.mark.parametrize("architecture", tiny.FAMILIES)
def test_a_run_at_the_base_size_has_the_same_bits(architecture, tmp_path):
  """And a wider one begins with the same state's layout, trains and is another run."""
  own = {"base_emb_dim": 32, "base_head_dim": 16}
  found = []
  for name, model_changes in (("plain", {}), ("base", own), ("wide", {"base_emb_dim": 16})):
    config = tiny.config(architecture, tmp_path / name, model=model_changes)
    tiny.train(config)
    found.append(tiny.records(tmp_path / name))
  assert found[0] == found[1] != found[2]
  assert setup.prepare(config).identity()["model"]["base_emb_dim"] == 16
