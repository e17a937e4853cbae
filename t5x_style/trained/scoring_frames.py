"""What a model reads around the ids that are scored: start, modes, [CLS] ... [SEP], sentinels."""

from __future__ import annotations

from collections.abc import Sequence

from t5x_style.trained.abilities import abilities
from t5x_style.trained.framing import Template
from t5x_style.trained.loaded_model import LoadedModel


def mode_ids(model: LoadedModel, objective: str) -> tuple[int, ...]:
  """Returns the mode token in front of the rows of an objective, of its first component; or ()."""
  for component in model.objectives:
    if component.get("objective") == objective:
      mode = component.get("mode")
      return (model.codec.special_id(mode),) if mode else ()
  return ()


def encoder_frame(model: LoadedModel, objective: str) -> Template:
  """Returns what is around a text in an encoder's row, for an objective of the model."""
  if model.template is not None:
    return model.template
  if model.config.architecture == "encoder_only":
    cls, sep = map(model.codec.special_id, ("[CLS]", "[SEP]"))
    return Template((cls,), (sep,))
  return Template(mode_ids(model, objective), (model.codec.eos_id,))


def context_of_decoder(model: LoadedModel, ids: Sequence[int]) -> list[int]:
  """Returns what a decoder-only model reads of a text before a target, without its start token.

  Rows of tasks that have inputs and targets have EOS between the two.
  """
  continues = abilities(model).get("continue")
  ended = continues is not None and continues.ended
  return [*mode_ids(model, "prefix_lm"), *ids, *([model.codec.eos_id] if ended else [])]


def reads_context_both_ways(model: LoadedModel) -> bool:
  """Returns whether a decoder-only model was trained to read what precedes a target both ways."""
  continues = abilities(model).get("continue")
  return continues is None or continues.both_ways


def decoder_start(model: LoadedModel) -> list[int]:
  """Returns what the decoder of an encoder-decoder reads before a target: BART also <s>."""
  return [model.codec.start_id, *(model.template.before if model.template else ())]


def hidden_by(model: LoadedModel) -> tuple[int, tuple[int, ...]]:
  """Returns the id that hides tokens from an encoder, and what the decoder reads before them.

  T5 writes what is hidden after its sentinel, BART writes the whole text.

  Raises:
    UserError: the vocabulary has neither sentinels nor [MASK].
  """
  infills = any(x.get("objective") == "text_infilling" for x in model.objectives)
  if len(model.codec.sentinel_ids) and not infills:
    sentinel = int(model.codec.sentinel_ids[0])
    return sentinel, (sentinel,)
  return model.codec.special_id("[MASK]"), ()
