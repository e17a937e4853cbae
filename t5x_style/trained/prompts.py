"""What a model reads of a text, for each method of abilities.py, and whether it fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from t5x_style.errors import UserError
from t5x_style.inference.row_batches import longest_row
from t5x_style.trained import framing, holes
from t5x_style.trained.abilities import Ability
from t5x_style.trained.loaded_model import LoadedModel

_MASK = "[MASK]"


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A text as a model reads it.

  Attributes:
    text: as it was given.
    encoder: the ids that the encoder reads; () if there is none.
    decoder: the ids that the decoder reads first; () if there is none.
    holed: the parts of a text with holes.
    cut: how many tokens at the end of the text the model does not read.
  """

  text: str
  encoder: tuple[int, ...] = ()
  decoder: tuple[int, ...] = ()
  holed: holes.HoledText | None = None
  cut: int = 0


def continued(
  trained: LoadedModel, ability: Ability, text: str, mode: str | None, new_tokens: int
) -> Prompt:
  """Returns the prompt of a text to continue.

  Args:
    mode: a mode token, None for the default one.
    new_tokens: how many may be written; masked diffusion reads as many masks.

  Raises:
    UserError: the text is too long, or the mode is unknown.
  """
  codec, template = trained.codec, trained.template
  ids = [*_mode_ids(trained, ability, mode), *_encode(trained, text)]
  if ability.method == "unmasking":
    masks = [codec.special_id(_MASK)] * new_tokens
    return _fitting(trained, Prompt(text, encoder=(*ids, *masks)))
  if ability.method == "decoder":
    read = framing.decoder_prompt(codec, template, ids)
    end = [codec.eos_id] if ability.ended else []
    return _fitting(trained, Prompt(text, decoder=(*read, *end)))
  return _fitting(trained, Prompt(text, _encoder_row(trained, ids), _decoder_start(trained)))


def filled(trained: LoadedModel, ability: Ability, text: str, mode: str | None) -> Prompt:
  """Returns the prompt of a text with holes.

  Raises:
    UserError: the text has no hole, too many of them, or is too long, or the mode is unknown.
  """
  codec = trained.codec
  holed = holes.read(codec, text)
  front = _mode_ids(trained, ability, mode)
  if ability.method == "middle":
    return _fitting(trained, _middle(trained, text, holed))
  if ability.method == "spans":
    sentinels = [int(i) for i in codec.sentinel_ids[: holed.count]]
    if len(sentinels) < holed.count:
      raise UserError(
        f"The text has {holed.count} holes, and the vocabulary has {len(sentinels)} sentinels; "
        "fill it in parts."
      )
    ids = [*front, *holed.ids_with([[i] for i in sentinels])]
    if ability.both_ways:
      read = (codec.start_id, *ids, codec.eos_id)
      return _fitting(trained, Prompt(text, decoder=read, holed=holed))
    start = (*_decoder_start(trained), sentinels[0])
    return _fitting(trained, Prompt(text, _encoder_row(trained, ids), start, holed))
  ids = holed.ids_with([[codec.special_id(_MASK)]] * holed.count)
  if ability.method == "infilling":
    start = (*_decoder_start(trained), *holed.ids[0])
    return _fitting(trained, Prompt(text, _encoder_row(trained, ids), start, holed))
  row = _framed(trained, ids) if ability.framed else ids
  return _fitting(trained, Prompt(text, encoder=tuple(row), holed=holed))


def embedded(trained: LoadedModel, ability: Ability, text: str) -> Prompt:
  """Returns the prompt of a text to turn into a vector.

  Raises:
    UserError: the text is empty or too long.
  """
  ids = _encode(trained, text)
  if not ids:
    raise UserError("The text is empty: it has no vector.")
  if trained.config.architecture == "decoder_only":
    read = framing.decoder_prompt(trained.codec, trained.template, ids)
    return _fitting(trained, Prompt(text, decoder=tuple(read)))
  if trained.config.architecture == "encoder_decoder":
    return _fitting(trained, Prompt(text, _encoder_row(trained, ids)))
  row = _framed(trained, ids) if ability.framed else ids
  return _fitting(trained, Prompt(text, encoder=tuple(row)))


def classified(trained: LoadedModel, ability: Ability, text: str, most: int | None) -> Prompt:
  """Returns the prompt of a text to classify.

  Args:
    most: tokens of a row, special ones included; the end of a longer text is cut, as in training.

  Raises:
    UserError: the text is empty, or too long for learned positions.
  """
  ids = _encode(trained, text)
  if not ids:
    raise UserError("The text is empty: it has no label.")
  framing_ids = len(_framed(trained, []))
  kept = ids if most is None else ids[: most - framing_ids]
  row = tuple(_framed(trained, kept) if ability.framed else kept)
  return _fitting(trained, Prompt(text, encoder=row, cut=len(ids) - len(kept)))


def _encode(trained: LoadedModel, text: str) -> list[int]:
  if not isinstance(text, str):
    raise UserError(f"{text!r} is no text.")
  return trained.codec.encode(text) if text else []


def _mode_ids(trained: LoadedModel, ability: Ability, requested: str | None) -> list[int]:
  mode = ability.mode(requested)
  return [] if mode is None else [trained.codec.special_id(mode)]


def _encoder_row(trained: LoadedModel, ids: Sequence[int]) -> tuple[int, ...]:
  """Returns what the encoder of an encoder-decoder reads."""
  if trained.template is not None:
    return tuple(trained.template.around(ids))
  return (*ids, trained.codec.eos_id)


def _decoder_start(trained: LoadedModel) -> tuple[int, ...]:
  """Returns what the decoder of an encoder-decoder reads first.

  BART's targets begin as its inputs do, with <s> after the start token: Hugging Face's
  forced_bos_token_id.
  """
  before = () if trained.template is None else trained.template.before
  return (trained.codec.start_id, *before)


def _framed(trained: LoadedModel, ids: Sequence[int]) -> list[int]:
  """Returns what an encoder-only model reads: [CLS] ids [SEP]."""
  if trained.template is not None:
    return trained.template.around(ids)
  codec = trained.codec
  return [codec.special_id("[CLS]"), *ids, codec.special_id("[SEP]")]


def _middle(trained: LoadedModel, text: str, holed: holes.HoledText) -> Prompt:
  """Returns [PRE] prefix [SUF] suffix [MID] (Bavarian et al. 2022, section 3.1)."""
  if holed.count != 1:
    raise UserError(
      f"The text has {holed.count} holes: this model fills one, between a prefix and a suffix."
    )
  pre, suf, mid = (trained.codec.special_id(x) for x in ("[PRE]", "[SUF]", "[MID]"))
  prefix, suffix = holed.ids
  row = (trained.codec.start_id, pre, *prefix, suf, *suffix, mid)
  return Prompt(text, decoder=row, holed=holed)


def _fitting(trained: LoadedModel, prompt: Prompt) -> Prompt:
  """Returns the prompt; raises UserError if the model has too few positions for it."""
  limit = longest_row(trained.model)
  count = max(len(prompt.encoder), len(prompt.decoder))
  if limit is not None and count > limit:
    raise UserError(
      f"The text is too long: it has {count:,} tokens with its special tokens and masks, and the "
      f"model has {limit:,} learned positions."
    )
  return prompt


def of_texts(texts: str | Sequence[str], prompt: Callable[[str], Prompt]) -> list[Prompt]:
  """Returns the prompts of texts, or of one text.

  Raises:
    UserError: of `prompt`, with the number of the text if there are several.
  """
  if isinstance(texts, str):
    return [prompt(texts)]
  found = []
  for number, text in enumerate(texts):
    try:
      found.append(prompt(text))
    except UserError as error:
      place = f"texts[{number}]: " if len(texts) > 1 else ""
      raise UserError(f"{place}{error}") from error
  return found
