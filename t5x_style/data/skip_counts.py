"""Counts what of the text is skipped or repaired; the counts travel with the examples.

Documents, windows, examples and rows carry the feature KEY, int64 [4]: how many of each of KINDS
there were since the stream began. (Rows of a mixture: int64 [components, 4].) As part of the
elements they are the same after a restart and for any number of threads, and cost no second pass
over the text. The model does not get them: the iterator takes them out of the batches.

The first of them holds the epoch of the newest document, too, as a higher digit: positions that
earlier versions saved, without the epoch, can still be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  from t5x_style.data.tensorflow_setup import tf

KEY = "counts"
# Documents read, those with too few tokens, those with bytes that were not UTF-8, and windows with
# nothing to predict.
KINDS = ("documents", "short", "repaired", "windows")
_EPOCH = 2**40  # the digit of the epoch; no epoch has that many documents


def usable(documents: tf.data.Dataset, least: int = 1) -> tf.data.Dataset:
  """Leaves out documents of fewer than `least` tokens and gives the others their counts.

  Args:
    documents: {"targets": int32 [n], "noise_seed": int64 [2], ...}; the second half of the seed is
      the epoch; and, if known, "repaired", bool.
    least: tokens.
  """
  from t5x_style.data.tensorflow_setup import tf

  def count(before, document):
    short = tf.size(document["targets"]) < least
    repaired = document.get("repaired", tf.constant(False))
    now = before + tf.cast(tf.stack([tf.constant(True), short, repaired, False]), tf.int64)
    now = tf.concat([now[:1] % _EPOCH + document["noise_seed"][1:] * _EPOCH, now[1:]], axis=0)
    kept = {k: v for k, v in document.items() if k != "repaired"}
    return now, {**kept, KEY: now}

  counted = documents.scan(np.zeros(len(KINDS), np.int64), count)
  return counted.filter(lambda document: tf.size(document["targets"]) >= least)


def drop_useless(batches: tf.data.Dataset) -> tf.data.Dataset:
  """Leaves out and counts the examples [B, ...] whose feature "useful", bool [B], is false."""
  from t5x_style.data.tensorflow_setup import tf

  def drop(before, batch):
    useful = batch["useful"]
    now = before + tf.reduce_sum(tf.cast(~useful, tf.int64))
    counts = tf.concat([batch[KEY][:, :-1], batch[KEY][:, -1:] + now], axis=1)
    batch = {k: v for k, v in {**batch, KEY: counts}.items() if k != "useful"}
    return now, {k: tf.boolean_mask(v, useful) for k, v in batch.items()}

  return batches.scan(np.int64(0), drop)


def of_component(counts: tf.Tensor, index: int, components: int) -> tf.Tensor:
  """int64 [4] -> [components, 4]: the counts in row `index`, zeros in the others."""
  from t5x_style.data.tensorflow_setup import tf

  return tf.pad(counts[None], [[index, components - 1 - index], [0, 0]])


def newest(rows: np.ndarray, before: np.ndarray | int = 0) -> np.ndarray:
  """The newest counts of a batch, int64 [rows, ...] -> [...], and of the batches before it.

  Counts only grow, and rows are shuffled, so the newest counts are the largest.
  """
  return np.maximum(rows.max(axis=0), before)


def total(counts: np.ndarray) -> dict[str, int]:
  """Returns {kind: sum over the components} of counts int64 [components, 4] or [4]."""
  sums = np.concatenate([counts[..., :1] % _EPOCH, counts[..., 1:]], axis=-1)
  sums = sums.reshape(-1, len(KINDS)).sum(axis=0)
  return {kind: int(n) for kind, n in zip(KINDS, sums, strict=True)}


def epochs(counts: np.ndarray, documents: Sequence[float | None]) -> list[float]:
  """Returns how often each component has read its documents.

  Args:
    counts: int64 [components, 4] or [4].
    documents: of an epoch of each component; where it is None, only whole epochs count.
  """
  found = []
  for row, size in zip(counts.reshape(-1, len(KINDS)), documents, strict=True):
    epoch, count = divmod(int(row[0]), _EPOCH)
    found.append(epoch + (min(max(count / size - epoch, 0.0), 1.0) if size else 0.0))
  return found


def summary(counts: Iterable[np.ndarray]) -> str:
  """Says in one line what was skipped or repaired, "" where nothing was.

  Args:
    counts: the newest counts of each data stream.
  """
  totals = [total(c) for c in counts]
  sums = {kind: sum(t[kind] for t in totals) for kind in KINDS}
  texts = {
    "short": "with too little text were skipped",
    "repaired": "were not UTF-8; their wrong bytes became U+FFFD",
  }
  parts = [f"{sums[kind]:,} {text}" for kind, text in texts.items() if sums[kind]]
  lines = [f"of {sums['documents']:,} documents read {', '.join(parts)}"] if parts else []
  if sums["windows"]:
    lines.append(f"{sums['windows']:,} windows with nothing to predict were skipped")
  return "; ".join(lines)
