"""The texts of a row, cut into spans of one style each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from t5x_style.data.preview.example import Example, Tokens
from t5x_style.data.tokenizers.token_ids import TokenIds

# What the kinds of tokens (example.KINDS) are called in the legend.
MEANINGS = {
  "kept": "kept",
  "hidden": "hidden from the model",
  "masked": "[MASK]",
  "randomised": "another token instead",
  "sentinel": "sentinel",
  "mode": "mode",
  "special": "special",
  "padding": "padding",
}


class Span(NamedTuple):
  """A text that is shown in one style: neighbouring tokens of the same kind."""

  text: str
  kind: str
  has_loss: bool


def sections(example: Example) -> Iterator[tuple[str, Tokens]]:
  """Yields (heading, tokens) of each text of an example."""
  if example.raw is not None:
    yield f"text, {len(example.raw.ids)} tokens", example.raw
  yield f"inputs, {len(example.inputs.ids)} tokens", example.inputs
  loss = sum(weight > 0 for weight in example.targets.weights)
  yield f"targets, {len(example.targets.ids)} tokens, {loss} with loss", example.targets


def spans(tokens: Tokens, ids: TokenIds, limit: int | None = None) -> Iterator[Span]:
  """Yields the first `limit` tokens as text, control characters written as escapes."""
  stop = len(tokens.ids) if limit is None else min(limit, len(tokens.ids))
  styles = [(tokens.kinds[i], tokens.weights[i] > 0) for i in range(stop)]
  start = 0
  for i in range(1, stop + 1):
    if i == stop or styles[i] != styles[start]:
      part = tokens.ids[start:i]
      kind, has_loss = styles[start]
      text = ids.decode_visible(part)
      text = "·" * len(part) if kind == "padding" else text
      safe = (c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
      yield Span("".join(safe), kind, has_loss)
      start = i
  if stop < len(tokens.ids):
    yield Span(f" ... and {len(tokens.ids) - stop} more", "padding", False)
