"""A sample of what a model predicts for a held-out example, as text that a person can judge."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from t5x_style.inference.decoding import SPECIAL_IDS, decode
from t5x_style.models import Transformer

Decode = Callable[[Any], str]
Sample = dict[str, str]


def sample(
  model: Transformer,
  params: Any,
  batch: dict[str, np.ndarray],
  to_text: Decode,
  special_ids: tuple[int, int, int] = SPECIAL_IDS,
  max_tokens: int = 96,
) -> Sample:
  """Fills holes in, continues, or unmasks the first example of a batch, by the architecture.

  Args:
    batch: features of an evaluation batch.
    to_text: token ids -> text.
    special_ids: as `decode`.
    max_tokens: of the example that are shown.

  Returns:
    {title: text}: what the model was given, what it predicted, and the truth.
  """
  row = {name: value[:1] for name, value in batch.items()}
  return {
    "encoder_decoder": _infill,
    "decoder_only": _continue,
    "encoder_only": _unmask,
  }[model.config.architecture](model, params, row, to_text, special_ids, max_tokens)


def _infill(model, params, row, to_text, special_ids, max_tokens):
  """Returns the encoder's input, the greedily decoded targets, and the true ones."""
  targets = row["decoder_target_tokens"][0][:max_tokens]
  written = decode(
    model,
    params,
    jnp.zeros((1, 0), jnp.int32),
    length=len(targets),
    encoder_tokens=jnp.asarray(row["encoder_input_tokens"]),
    encoder_segments=row.get("encoder_segment_ids"),
    special_ids=special_ids,
  )
  return {
    "text with holes": to_text(row["encoder_input_tokens"][0][:max_tokens]),
    "filled in": to_text(np.asarray(written[0])),
    "truth": to_text(targets),
  }


def _continue(model, params, row, to_text, special_ids, max_tokens):
  """Returns the first tokens of the row, the model's continuation, and the true one."""
  tokens = row["decoder_target_tokens"][0]
  given = tokens[: min(len(tokens) // 2, max_tokens // 2)]
  length = len(given) + max_tokens // 2
  if model.config.positions == "learned":  # Only these positions have embeddings.
    length = min(length, model.config.max_length)
  written = decode(model, params, jnp.asarray(given)[None], length=length, special_ids=special_ids)
  return {
    "beginning": to_text(given),
    "continuation": to_text(np.asarray(written[0][len(given) :])),
    "truth": to_text(tokens[len(given) : length]),
  }


def _unmask(model, params, row, to_text, special_ids, max_tokens):
  """Returns the masked text, the text with the likeliest tokens filled in, and the truth."""
  out = model.apply({"params": params}, {k: jnp.asarray(v) for k, v in row.items()})
  logits = out.logits()[0]  # A soft cap would not change their order.
  inputs, targets = row["encoder_input_tokens"][0], row["encoder_target_tokens"][0]
  has_loss = row["encoder_loss_weights"][0] > 0
  filled = np.where(has_loss, np.asarray(logits.argmax(-1)), targets)
  return {
    "masked text": to_text(inputs[:max_tokens]),
    "filled in": to_text(filled[:max_tokens]),
    "truth": to_text(targets[:max_tokens]),
  }
