"""Classes of rows: the head on the first token of an encoder."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.inference.row_batches import longest_row, row_batches
from t5x_style.models import Transformer

# Of a sample: texts, their first characters, and labels of each.
_SHOWN, _CHARACTERS, _CANDIDATES = 4, 240, 3


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
    features = {"encoder_input_tokens": batch.tokens, "encoder_segment_ids": batch.segments}
    classes = jax.device_get(_classes(model, params, features))
    found[batch.indices] = classes[: len(batch.indices)]
  return found


def labelled_sample(
  model: Transformer,
  params: Any,
  batch: Mapping[str, np.ndarray],
  to_text: Callable[[Any], str],
  label_names: Sequence[str],
) -> dict[str, str]:
  """Returns the first texts of a held-out batch with their labels and the likeliest ones.

  Args:
    batch: features of an evaluation batch, [B, ...].
    to_text: token ids -> text, with special tokens.
    label_names: of the classes.

  Returns:
    {title: text}.
  """
  used = np.flatnonzero(batch["encoder_loss_weights"].any(-1))[:_SHOWN]
  features = {k: np.asarray(v) for k, v in batch.items() if k.startswith("encoder_")}
  # All rows are computed, so that those of a mesh stay evenly spread.
  probabilities = np.asarray(jax.device_get(_classes(model, params, features)))
  shown = {"Held-out texts, their labels, and the likeliest labels": ""}
  for number, i in enumerate(used, 1):
    text = to_text(features["encoder_input_tokens"][i])[:_CHARACTERS]
    best = probabilities[i].argsort()[::-1][:_CANDIDATES]
    model_says = "   ".join(f"{label_names[k]} {probabilities[i][k]:.0%}" for k in best)
    truth = label_names[int(batch["pair_labels"][i])]
    shown[f"text {number}"] = f"{text}\ntruth   {truth}\nmodel   {model_says}"
  return shown


@functools.partial(jax.jit, static_argnames=("model",))
def _classes(model, params, features):
  # One position reaches the head: nothing else is projected on the vocabulary.
  first = jnp.zeros((features["encoder_input_tokens"].shape[0], 1), jnp.int32)
  return jax.nn.softmax(model.apply({"params": params}, features, first).pooled_logits)
