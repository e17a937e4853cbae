"""States that need no model, and a disk without room."""

import contextlib
import resource

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


@pytest.fixture
def no_room():
  """`with no_room():` lets this process write only tiny files, so that arrays cannot be stored."""

  @contextlib.contextmanager
  def limited(size=200):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
      yield
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)

  return limited
