"""A sample of what a model predicts for a held-out example, as text that a person can judge."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from t5x_style.inference.generation import generate
from t5x_style.models import Transformer

# The ids of padding (-1 if there is none), of the end and of the start of a sequence.
SPECIAL_IDS = (0, 1, 0)

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
    special_ids: the model's ids of padding (-1 if there is none), of the end and of the start of a
      sequence.
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
  inputs, (pad_id, eos_id, start_id) = row["encoder_input_tokens"][0], special_ids
  segments = row.get("encoder_segment_ids", (row["encoder_input_tokens"] != pad_id))[0]
  (written,) = generate(
    model,
    params,
    [[start_id]],
    encoder_inputs=[inputs[segments > 0]],
    max_new_tokens=len(targets),
    eos_id=eos_id,
    pad_id=pad_id,
  )
  return {
    "text with holes": to_text(row["encoder_input_tokens"][0][:max_tokens]),
    "filled in": to_text(written.tokens),
    "truth": to_text(targets),
  }


def _continue(model, params, row, to_text, special_ids, max_tokens):
  """Returns the first tokens of the row, the model's continuation, and the true one."""
  tokens = row["decoder_target_tokens"][0]
  given = tokens[: min(len(tokens) // 2, max_tokens // 2)]
  length = len(given) + max_tokens // 2
  if model.config.positions == "learned":  # Only these positions have embeddings.
    length = min(length, model.config.max_length)
  pad_id, eos_id, start_id = special_ids
  (written,) = generate(
    model,
    params,
    [[start_id, *given]],
    max_new_tokens=max(length - len(given), 1),
    eos_id=eos_id,
    pad_id=pad_id,
  )
  return {
    "beginning": to_text(given),
    "continuation": to_text(written.tokens),
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
