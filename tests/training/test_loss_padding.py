"""A whole training step ignores positions without loss, whatever their hidden states are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.training import setup, step


@dataclasses.dataclass(frozen=True)
class Planted:
  """A model whose hidden states are `value` wherever the batch has no loss."""

  model: object
  value: float | jax.Array

  @property
  def config(self):
    return self.model.config

  def apply(self, variables, batch, positions=None, **kwargs):
    out = self.model.apply(variables, batch, positions, **kwargs)
    side = "encoder" if self.config.architecture == "encoder_only" else "decoder"
    weights = batch[f"{side}_loss_weights"]
    if positions is not None:
      weights = jnp.take_along_axis(weights, positions, axis=1)
    hidden = jnp.where(weights[..., None] == 0, self.value, out.hidden)
    return out._replace(hidden=hidden)


@pytest.mark.parametrize(
  "architecture", ["encoder_only", pytest.param("encoder_decoder", marks=pytest.mark.slow)]
)
def test_hidden_states_of_padding_that_are_not_finite_change_nothing(
  architecture, tiny_config, tmp_path
):
  """In masked LM some rows have fewer masked positions than the loss has room for."""
  prepared = setup.prepare(tiny_config(architecture, tmp_path))
  batch = dict(next(prepared.dataset.train()))
  name = "encoder_loss_weights" if architecture == "encoder_only" else "decoder_loss_weights"
  batch[name] = batch[name].copy()
  batch[name][0] = 0.0
  batch[name][1, 3:] = 0.0

  state = prepared.init(0)

  @jax.jit
  def stepped(value):
    loss = dataclasses.replace(prepared.loss, model=Planted(prepared.loss.model, value))
    train_step = step.make_train_step(loss, prepared.optimizer, prepared.config.schedule)
    return train_step(state, batch)

  clean = stepped(0.0)
  assert np.isfinite(clean[1].sums.loss) and clean[1].grad_norm > 0
  for value in (np.nan, np.inf):
    jax.tree.map(np.testing.assert_array_equal, stepped(value), clean)
