"""Checks of the batches of a run that hold for streams and for token caches."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def check_batch(batch: dict[str, np.ndarray], data: Any) -> None:
  """Shapes, dtypes and ids are what the model gets; loss is on tokens only."""
  assert {
    k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()
  } == data.feature_shapes
  for name, value in batch.items():
    if name.endswith("tokens"):
      assert value.dtype == np.int32 and value.min() >= 0 and value.max() < data.vocab_size
    if name.endswith("loss_weights"):
      assert np.isfinite(value).all() and (value > 0).any()
      targets = batch[name.replace("loss_weights", "target_tokens")]
      assert (targets[value > 0] > 0).all()
      if data.max_targets is not None:
        assert (value > 0).sum(axis=1).max() <= data.max_targets


def check_resume_and_evaluation(load: Callable[[], Any], stored: Callable[[Any], Any]) -> Any:
  """The third batch is right, those after it come again from a stored place; returns the data.

  Args:
    load: opens the data of the run.
    stored: stores a place and reads it.
  """
  data, other = load(), load()
  batches, restored = data.train(), other.train()
  for _ in range(3):
    batch = next(batches)
  check_batch(batch, data)
  state = stored(batches.get_state())
  after = [next(batches) for _ in range(4)]
  restored.set_state(state)
  for batch in after:
    np.testing.assert_equal(next(restored), batch)
  evaluation = data.evaluation(2)
  for one, same in zip(evaluation, other.evaluation(2), strict=True):
    np.testing.assert_equal(one, same)
  assert evaluation[0].keys() == batch.keys()
  assert data.identity() == other.identity()
  return data
