"""What held-out rows hide from a model, so that it can be asked for it and compared with the truth.

Special tokens are recognised by their texts, which all vocabularies show alike.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

Row = Mapping[str, np.ndarray]  # features of one row, [L] each
ToText = Callable[[Any], str]

_SENTINEL = re.compile(r"<extra_id_\d+>")
OTHER_HOLE = "[...]"


class Gap(NamedTuple):
  """A part of a held-out text that a decoder is asked for.

  Attributes:
    before, after: the text around it, as the model reads it.
    prompt: what the decoder reads first, int32 [P], P > 0.
    truth: the hidden tokens, int32 [n], n > 0.
    inputs: what an encoder reads, int32 [S]; None without one.
    closing: an id that also ends what the model writes: that of the next hole. None: only EOS does.
    reads_both_ways: whether the prompt is read in both directions.
  """

  before: str
  after: str
  prompt: np.ndarray
  truth: np.ndarray
  inputs: np.ndarray | None = None
  closing: int | None = None
  reads_both_ways: bool = False


def rows(batch: Row) -> Iterator[dict[str, np.ndarray]]:
  """Yields the rows of a batch of features [B, ...]."""
  for number in range(len(next(iter(batch.values())))):
    yield {name: np.asarray(value[number]) for name, value in batch.items()}


def gap(row: Row, to_text: ToText, special_ids: tuple[int, int, int]) -> Gap | None:
  """Returns what a decoder can be asked for in a row; None if the row has nothing for it.

  It is the middle one of several holes, the middle of a text rearranged for filling in the middle,
  what follows a prefix, or the second half of a text.

  Args:
    row: one row, whose longest text is taken where several share it.
    to_text: token ids -> text, with special tokens.
    special_ids: the ids of padding (-1 if there is none), of the end and the start of a sequence.
  """
  targets, read, weights, prefix = _decoder_text(row, special_ids[0])
  if len(targets) < 2 or not weights.any():
    return None
  if "encoder_input_tokens" in row:
    inputs = _encoder_text(row, special_ids[0])
    sentinels = [i for i, x in enumerate(targets.tolist()) if _is_sentinel(x, to_text)]
    if sentinels and sentinels[0] == 0:
      return _hole(inputs, targets, read, sentinels, to_text, special_ids[1])
    given = without_sentinels(to_text(inputs))
    return Gap(given, "", read[:1], targets, inputs)
  if not weights[0]:  # What is before the first target is only read.
    start = int(np.argmax(weights > 0))
    given = without_sentinels(to_text(targets[:start]))
    return Gap(given, "", read[: start + 1], targets[start:], reads_both_ways=prefix is not None)
  places = {to_text([token]): place for place, token in enumerate(targets.tolist())}
  if {"[PRE]", "[SUF]", "[MID]"} <= places.keys():
    return _middle(targets, read, to_text, places["[SUF]"], places["[MID]"])
  return _second_half(targets, read, to_text)


def without_sentinels(text: str) -> str:
  """Returns a text with "[...]" for every sentinel."""
  return _SENTINEL.sub(OTHER_HOLE, text)


def _decoder_text(row, pad_id):
  """Returns targets, inputs, weights of loss and any prefix marks of the longest text of a row."""
  targets = row["decoder_target_tokens"]
  segments = row.get("decoder_segment_ids", (targets != pad_id).astype(np.int32))
  own = segments == _longest(segments) if segments.any() else np.zeros_like(segments, bool)
  weights = row.get("decoder_loss_weights", np.ones(len(targets), np.float32))
  prefix = row.get("decoder_causal_attention")
  return (
    targets[own],
    row["decoder_input_tokens"][own],
    weights[own],
    None if prefix is None else prefix[own],
  )


def _encoder_text(row, pad_id):
  """Returns what the encoder reads for the text that `_decoder_text` takes."""
  tokens = row["encoder_input_tokens"]
  segments = row.get("encoder_segment_ids")
  if segments is None:
    return tokens[tokens != pad_id]
  own = segments == (_longest(row["decoder_segment_ids"]) if "decoder_segment_ids" in row else 1)
  return tokens[own]


def _longest(segments: np.ndarray) -> int:
  """Returns the number of the segment with the most tokens; 0 is padding."""
  return 1 + int(np.bincount(segments[segments > 0])[1:].argmax())


def _is_sentinel(token: int, to_text: ToText) -> bool:
  return bool(_SENTINEL.fullmatch(to_text([token])))


def _hole(inputs, targets, read, sentinels, to_text, eos_id) -> Gap | None:
  """Returns the middle hole of a text; the decoder is told the truth about those before it."""
  number = (len(sentinels) - 1) // 2
  start = sentinels[number]
  after = sentinels[number + 1 :]
  ends = [*np.flatnonzero(targets == eos_id), len(targets)]
  end = after[0] if after else int(next(x for x in ends if x > start))
  places = np.flatnonzero(inputs == targets[start])
  if end == start + 1 or not len(places):
    return None
  return Gap(
    without_sentinels(to_text(inputs[: places[0]])),
    without_sentinels(to_text(inputs[places[0] + 1 :])),
    # The inputs are the targets, shifted right by one: this ends with the hole's sentinel.
    read[: start + 2] if start + 1 < len(read) else read,
    targets[start + 1 : end],
    inputs,
    closing=int(targets[end]) if end < len(targets) else None,
  )


def _middle(targets, read, to_text, suffix: int, middle: int) -> Gap | None:
  """Returns the middle of a text in the order prefix, suffix, middle.

  Returns None for the other order, in which a model writes the prefix after the suffix.

  Args:
    suffix, middle: the places of their tokens.
  """
  if suffix == 1 or middle + 2 >= len(targets):
    return None
  return Gap(
    to_text(targets[1:suffix]),
    to_text(targets[suffix + 1 : middle]),
    read[: middle + 2],
    targets[middle + 1 :],
  )


def _second_half(targets, read, to_text) -> Gap:
  half = len(targets) // 2
  return Gap(to_text(targets[:half]), "", read[: half + 1], targets[half:])


class Mask(NamedTuple):
  """A token that is masked in what an encoder reads.

  Attributes:
    before, after: the text around it, as the model reads it.
    position: in its row.
    truth: the hidden token.
    hidden_share: of the row's tokens, how many are hidden.
  """

  before: str
  after: str
  position: int
  truth: int
  hidden_share: float


def mask(row: Row, to_text: ToText, pad_id: int) -> Mask | None:
  """Returns the middle one of the masks of a row; None if there is none."""
  inputs, targets = row["encoder_input_tokens"], row["encoder_target_tokens"]
  segments = row.get("encoder_segment_ids", (inputs != pad_id).astype(np.int32))
  hidden = (row["encoder_loss_weights"] > 0) & (inputs != targets) & (segments > 0)
  if not hidden.any():
    return None
  # Masked LM replaces some hidden tokens by random ones, and most of them by the same one.
  masks = np.flatnonzero(hidden & (inputs == np.bincount(inputs[hidden]).argmax()))
  position = int(masks[(len(masks) - 1) // 2])
  own = np.flatnonzero(segments == segments[position])
  return Mask(
    to_text(inputs[own[own < position]]),
    to_text(inputs[own[own > position]]),
    position,
    int(targets[position]),
    float(hidden.sum() / (segments > 0).sum()),
  )


def excerpt(before: str, here: str, after: str, width: int = 160) -> str:
  """Returns `here` with the text around it: two lines before its own, and one after.

  Args:
    width: characters of each side, at most.
  """
  start, end = before[-width:], after[:width]
  if len(start) < len(before):  # Without the rest of a line of which the beginning is cut off.
    start = start.partition("\n")[2] or start
  if len(end) < len(after):
    end = end.rpartition("\n")[0] or end
  return "\n".join(start.split("\n")[-3:]) + here + "\n".join(end.split("\n")[:2])
