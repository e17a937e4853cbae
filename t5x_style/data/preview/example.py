"""One row as it is shown: its text before the objective, what is read, what is predicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from t5x_style.data.tokenizers.token_ids import TokenIds

# Kinds of tokens, for display.
KINDS = ("kept", "hidden", "masked", "randomised", "sentinel", "mode", "special", "padding")
_MODES = ("[R]", "[S]", "[X]", "[NLU]", "[S2S]", "[NLG]")
# Features of rows that the model does not get.
_NOT_FOR_MODEL = ("counts", "raw", "raw_hidden")


class Tokens(NamedTuple):
  """Tokens of a row, [L] each, without the padding at its end."""

  ids: list[int]
  kinds: list[str]
  weights: list[float]  # above zero: the token carries loss


class Example(NamedTuple):
  """One row; it may hold several packed examples of a user's own task."""

  raw: Tokens | None  # the window of text; the model has to predict its "hidden" tokens
  inputs: Tokens  # what an encoder reads, or a decoder's whole row, shifted right
  targets: Tokens
  features: Mapping[str, np.ndarray]  # the row as the model gets it


def of_row(row: Mapping[str, np.ndarray], kinds: np.ndarray, side: str) -> Example:
  """Returns one row of a batch as it is shown.

  Args:
    row: {model feature: array}, and the features of text that previews have; the ids are those of
      TokenIds.
    kinds: the kind of each id, as `token_kinds` returns them.
    side: the side that predicts.
  """
  targets, weights = row[f"{side}_target_tokens"], row[f"{side}_loss_weights"]
  raw = None
  if "raw" in row:
    hidden = row.get("raw_hidden", np.zeros_like(row["raw"], bool))
    raw = _tokens(kinds, row["raw"], changed={"hidden": hidden})
  if side == "encoder":
    read = row["encoder_input_tokens"]
    inputs = _tokens(
      kinds, read, weights, changed={"randomised": (read != targets) & (weights > 0)}
    )
  elif "encoder_input_tokens" in row:
    inputs = _tokens(kinds, row["encoder_input_tokens"])
  else:
    inputs = _tokens(kinds, row["decoder_input_tokens"], length=_length(targets))
  features = {k: v for k, v in row.items() if k not in _NOT_FOR_MODEL}
  return Example(raw, inputs, _tokens(kinds, targets, weights), features)


def text(ids: np.ndarray, hidden: np.ndarray, kinds: np.ndarray) -> Tokens:
  """Returns a text as it is shown: int32 [n], and bool [n] what the model has to find out."""
  return _tokens(kinds, ids, changed={"hidden": hidden})


def _length(tokens: np.ndarray) -> int:
  """Returns the number of tokens without the padding at the end."""
  return int(np.max(np.flatnonzero(tokens), initial=-1)) + 1


def _tokens(
  table: np.ndarray,
  ids: np.ndarray,
  weights: np.ndarray | None = None,
  *,
  changed: Mapping[str, np.ndarray] | None = None,
  length: int | None = None,
) -> Tokens:
  """Returns tokens with their kinds; `changed` holds masks of those that are not "kept"."""
  n = _length(ids) if length is None else length
  kinds = [str(kind) for kind in table[ids[:n]]]
  for kind, where in (changed or {}).items():
    kinds = [kind if where[i] and k == "kept" else k for i, k in enumerate(kinds)]
  carried = np.zeros(n) if weights is None else weights[:n]
  return Tokens([int(i) for i in ids[:n]], kinds, [float(w) for w in carried])


def token_kinds(ids: TokenIds) -> list[str]:
  """Returns the kind of each id, [V], as far as only the vocabulary decides; text is "kept"."""
  kinds = ["kept"] * ids.vocab_size
  for i, mark in ids.marks().items():
    kinds[i] = "masked" if mark == "[MASK]" else "mode" if mark in _MODES else "special"
  for i in range(ids.vocab_size - ids.sentinels, ids.vocab_size):
    kinds[i] = "sentinel"
  kinds[0] = "padding"
  return kinds
