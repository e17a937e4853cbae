"""Windows: as many consecutive tokens as fill the features of an example.

A window is cut from documents that are joined by EOS, or from a single document; window_stream.py
cuts those of the stream. NumPy arrays and tensors give the same results; see arrays.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from t5x_style.data import arrays
from t5x_style.data.arrays import Array, Features

# {"tokens": int32 [B, L], zeros after the end of the text, "lengths": int32 [B], "seeds":
# uint64 [B], a seed for the noise of each window} -> features [B, ...]. Two features are optional
# and not part of the examples: "hidden", bool [B, L], marks the tokens of the window that the model
# has to find out; rows where "useful", bool [B], is false have nothing to predict.
CorruptWindow = Callable[[Features], Features]


def cuts_of_document(size: Array, length: int) -> tuple[Array, Array]:
  """Cuts a document on its own into windows of `length` tokens, the last one shorter.

  Windows have two tokens at least: if one would be left, the window before it is one shorter.

      size 7, length 3    [0, 3, 5], [3, 5, 7]

  Args:
    size: tokens of the document, at least 2.

  Returns:
    int32 [windows] each: where they start and end.
  """
  xp = arrays.of(size)
  if length == 2:
    starts = xp.arange(size // length) * length
    return starts, starts + length
  starts = xp.minimum(xp.arange((size + length - 1) // length) * length, size - 2)
  return starts, xp.concat([starts[1:], xp.zeros_like(starts[:1]) + size])


def segment_ids(tokens: Array, eos_id: int) -> Array:
  """Numbers the documents of each window from 1; padding is 0.

  tokens  [[7, 8, EOS, 9, EOS, 0]]
  returns [[1, 1,   1, 2,   2, 0]]
  """
  xp = arrays.of(tokens)
  ends = xp.cast(tokens == eos_id, np.int32)
  return xp.where(tokens > 0, 1 + xp.cumsum(ends, exclusive=True), 0)


def with_eos(tokens: Array, n: Array, eos_id: int, length: int) -> Array:
  """int32 [B, L] -> [B, length]: EOS after the first `n` [B] tokens of each row."""
  xp = arrays.of(tokens)
  padded = xp.pad(tokens, 0, length - tokens.shape[1])
  return xp.where(arrays.places(length) == n[:, None], eos_id, padded)


def repeated(ids: Sequence[int], like: Array) -> Array:
  """Returns the same ids, e.g. of a mode token, for each row of `like` [B, ...]: int32 [B, n]."""
  return arrays.of(like).filled(like, len(ids), 0) + np.array([ids], np.int32)
