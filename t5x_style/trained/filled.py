"""What filling a text returns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from t5x_style.codecs.text_codec import TextCodec
from t5x_style.inference.generation import Continuation
from t5x_style.trained import holes


@dataclasses.dataclass(frozen=True)
class Candidate:
  """Something that may be in a hole.

  Attributes:
    text: with the spaces that belong to it.
    probability: of its tokens. [MASK]: of this token among all. Holes that a decoder fills: that it
      writes exactly these tokens there and then what follows the hole, given the text and what it
      wrote into earlier holes. Masked diffusion: at the step that chose the token.
    tokens: ids.
  """

  text: str
  probability: float
  tokens: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Filled:
  """A text whose holes are filled.

  Attributes:
    text: with the first candidate in each hole.
    holes: the candidates of each hole. The first is the one in the text; the others follow by
      their probabilities. () where the model wrote something else than the text around the hole, or
      had no positions left for it.
  """

  text: str
  holes: tuple[tuple[Candidate, ...], ...]


def candidate(
  codec: TextCodec, ids: Sequence[int], log_probability: float, space: bool
) -> Candidate:
  """Returns ids as a candidate; `space` is that of holes.filling_text."""
  text = holes.filling_text(codec, ids, space)
  return Candidate(text, math.exp(log_probability), tuple(map(int, ids)))


def of_span(
  codec: TextCodec, written: Continuation, span: tuple[int, int], space: bool
) -> Candidate:
  """Returns the span of a continuation as a candidate; its probability includes what ends it."""
  start, stop = span
  log_probability = float(written.log_probabilities[start : stop + 1].sum())
  return candidate(codec, written.tokens[start:stop].tolist(), log_probability, space)


def ranked(candidates: Sequence[Candidate], most: int) -> tuple[Candidate, ...]:
  """Returns the first candidate, then the likeliest of the others, each text once."""
  if not candidates:
    return ()
  first, *others = candidates
  best = {first.tokens: first}
  for other in sorted(others, key=lambda x: -x.probability):
    best.setdefault(other.tokens, other)
  return tuple(best.values())[:most]
