"""States that need no model."""

import jax.numpy as jnp
import pytest

from t5x_style.training.guard import Guard
from t5x_style.training.state import TrainState


@pytest.fixture
def small_state():
  """small_state(step) returns a state of 16 kB that differs from that of any other step."""

  def make(step):
    params = {"kernel": jnp.arange(4096, dtype=jnp.float32) + step}
    rng = jnp.zeros(2, jnp.uint32)
    return TrainState(jnp.int32(step), params, opt_state={}, rng=rng, guard=Guard.new())

  return make
