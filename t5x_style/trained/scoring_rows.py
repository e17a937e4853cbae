"""The rows whose scores give the log-probabilities of a text, by the method of scoring.

Each function returns weighted rows for the ids of one text: the log-probability of its token i is
the sum, over the rows that score it, of the row's weight times its score.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from t5x_style.inference.scoring import Row
from t5x_style.trained.framing import Template

Ids = Sequence[int]


class WeightedRow(NamedTuple):
  """A row to score, which tokens of the text its targets are, and the weight of its scores."""

  row: Row
  tokens: Ids
  weight: float = 1.0


def written(
  start: Ids, ids: Ids, *, encoder_inputs: Ids = (), prefix: int = 0
) -> Iterator[WeightedRow]:
  """Yields the one row of a decoder that reads `start` and then writes all ids.

  Args:
    start: what it reads first, at least one id.
    encoder_inputs: what the encoder reads, if there is one.
    prefix: how many of the decoder's inputs are read in both directions.
  """
  positions = range(len(start) - 1, len(start) - 1 + len(ids))
  row = Row(ids, positions, [*start, *ids[:-1]], encoder_inputs, prefix)
  yield WeightedRow(row, range(len(ids)))


def masked_one_by_one(
  frame: Template, ids: Ids, mask_id: int, words: Ids | None = None
) -> Iterator[WeightedRow]:
  """Yields a row of an encoder for each token, in which it is masked.

  Pseudo-log-likelihood (Salazar et al. 2020, section 2.1). With `words`, the tokens after it in its
  word are masked too (Kauf and Ivanova 2023, section 3, PLL-word-l2r): a word of several tokens
  would otherwise be guessed from its own rest.

      ids      a b1 b2 b3 c     row of b1   a M b2 b3 c     with words   a M M M c

  Args:
    words: the number of the word that each token belongs to.
  """
  for i, target in enumerate(ids):
    masked = list(ids)
    for j in range(i, len(ids)):
      if j == i or (words and words[j] == words[i]):
        masked[j] = mask_id
    row = Row([target], [len(frame.before) + i], encoder_inputs=frame.around(masked))
    yield WeightedRow(row, [i])


def hidden_one_by_one(
  frame: Template, ids: Ids, mask_id: int, start: Ids, *, writes_all: bool
) -> Iterator[WeightedRow]:
  """Yields a row of an encoder-decoder for each token: it is hidden from the encoder.

  BabyLM's enc_dec_mask (the evaluation pipelines of 2025 and 2026).

  Args:
    mask_id: stands for the token in the encoder's input: [MASK] or the first sentinel.
    start: what the decoder reads before it writes the token: the start token and the sentinel.
    writes_all: whether the decoder writes the whole text (BART) and so reads the tokens before the
      hidden one; otherwise it writes only what is hidden (T5).
  """
  for i, target in enumerate(ids):
    inputs = frame.around([*ids[:i], mask_id, *ids[i + 1 :]])
    read = [*start, *(ids[:i] if writes_all else ())]
    yield WeightedRow(Row([target], [len(read) - 1], read, inputs), [i])


def diffusion_bound(
  frame: Template, ids: Ids, mask_id: int, samples: int, draw: np.random.Generator
) -> Iterator[WeightedRow]:
  """Yields rows of an encoder whose weighted scores are a bound of the log-likelihood.

  The bound is the mean over l = 1 ... n of the mean over all sets S of l of the n tokens of
    n / l * sum of log p(token | all tokens but S) over S
  (Nie et al. 2025, equation 6; the mean over t of equation 3, of which it is the form with the
  smaller variance). If there are at most `samples` sets, all are taken, and the bound is exact.

  Args:
    frame: ids that are never masked; a text that `ids` follow is a part of it.
    samples: how many random sets are drawn.
  """
  n = len(ids)

  def masked(members: Ids, weight: float) -> WeightedRow:
    inputs = np.array(ids)
    inputs[members] = mask_id
    row = Row(
      [ids[i] for i in members],
      [len(frame.before) + i for i in members],
      encoder_inputs=frame.around(inputs.tolist()),
    )
    return WeightedRow(row, members, weight)

  if is_enumerated(n, samples):
    for code in range(1, 2**n):
      members = [i for i in range(n) if code >> i & 1]
      size = len(members)
      yield masked(members, 1 / (size * math.comb(n, size)))
    return
  for _ in range(samples):
    size = int(draw.integers(1, n + 1))
    members = np.sort(draw.permutation(n)[:size]).tolist()
    yield masked(members, n / size / samples)


def is_enumerated(length: int, samples: int) -> bool:
  """Returns whether the bound of this many tokens is computed from all sets, and so exactly."""
  return length < 60 and 2**length - 1 <= samples
