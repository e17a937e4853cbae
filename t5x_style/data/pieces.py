"""How documents are cut one by one, from their lengths alone: no token is read for it."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np


@dataclasses.dataclass(frozen=True)
class Cutting:
  """How each document becomes pieces.

  Attributes:
    kind: "windows": pieces of `length` tokens, the last one shorter but of two tokens at least, as
      t5x_style.data.windows.windows_of_each cuts them; "chunks": the same, but a rest of fewer than
      `shortest` tokens is left out; "whole": a document is one piece.
    length: tokens of a piece.
    shortest: tokens; documents of fewer have no piece.
  """

  kind: Literal["windows", "chunks", "whole"]
  length: int = 0
  shortest: int = 1

  def counts(self, documents: np.ndarray) -> np.ndarray:
    """Returns the pieces of documents of this many tokens: int64 [n] -> [n]."""
    if self.kind == "whole":
      return (documents >= self.shortest).astype(np.int64)
    if self.kind == "windows" and self.length > 2:
      return np.where(documents >= 2, -(-documents // self.length), 0)
    least = 2 if self.kind == "windows" else self.shortest
    return documents // self.length + (documents % self.length >= least)

  def starts(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns all pieces of documents of this many tokens, in order.

    Returns:
      int64 [pieces] each: the index of the document, and the first token of the piece in it.
    """
    counts = self.counts(documents)
    of = np.repeat(np.arange(len(documents)), counts)
    number = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = number * self.length
    if self.kind == "windows" and self.length > 2:
      starts = np.minimum(starts, documents[of] - 2)
    return of, starts

  def ends(self, documents: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns where pieces end, [n]: piece i is of a document of documents[i] tokens."""
    if self.kind == "whole":
      return documents.copy()
    after = (-(-starts // self.length) + 1) * self.length  # where the next piece would start
    if self.kind == "windows" and self.length > 2:
      return np.where(after < documents, np.minimum(after, documents - 2), documents)
    return np.minimum(after, documents)
