"""Classes of rows: the head on the first token of an encoder."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.inference.mask_filling import longest_row
from t5x_style.inference.row_batches import row_batches
from t5x_style.models import Transformer


def class_probabilities(
  model: Transformer, params: Any, rows: Sequence[Sequence[int]], *, batch_size: int = 16
) -> np.ndarray:
  """Returns the probability of each class for each row, float32 [N, C].

  Args:
    model: with config.pooled_classes = C.
    rows: token ids with all special tokens; at least one each.
    batch_size: rows of a batch.
  """
  config = model.config
  found = np.zeros((len(rows), config.pooled_classes), np.float32)
  for batch in row_batches(
    rows, batch_size=batch_size, pad_id=max(config.padding_id, 0), longest=longest_row(model)
  ):
    classes = jax.device_get(_classes(model, params, batch.tokens, batch.segments))
    found[batch.indices] = classes[: len(batch.indices)]
  return found


@functools.partial(jax.jit, static_argnames=("model",))
def _classes(model, params, tokens, segments):
  batch = {"encoder_input_tokens": tokens, "encoder_segment_ids": segments}
  first = jnp.zeros((tokens.shape[0], 1), jnp.int32)  # Nothing is projected on the vocabulary.
  return jax.nn.softmax(model.apply({"params": params}, batch, first).pooled_logits)
