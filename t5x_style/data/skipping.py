"""Counts what of the text is skipped or repaired; the counts travel with the examples.

They are sums since the stream began and part of its elements, so that they are the same after a
restart, for any number of threads, and cost no second pass over the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

# What is counted, in order: documents read, those with too few tokens, those whose bytes were no
# UTF-8, and windows in which there was nothing to predict.
KINDS = ("documents", "short", "repaired", "windows")

Corrupter = Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]


def usable(documents: tf.data.Dataset, least: int = 1) -> tf.data.Dataset:
  """Leaves out documents of fewer than `least` tokens; the others gain "counts", int64 [4].

  Args:
    documents: {"targets": int32 [n], ...}, and "repaired", bool, where it is known.
  """

  def count(before, document):
    short = tf.size(document["targets"]) < least
    repaired = document.get("repaired", tf.constant(False))
    now = before + tf.cast(tf.stack([tf.constant(True), short, repaired, False]), tf.int64)
    kept = {k: v for k, v in document.items() if k != "repaired"}
    return now, {**kept, "counts": now}

  counted = documents.scan(np.zeros(len(KINDS), np.int64), count)
  return counted.filter(lambda document: tf.size(document["targets"]) >= least)


def examples(
  windows: tf.data.Dataset,
  corrupt: Corrupter,
  *,
  keep_raw: bool,
) -> tf.data.Dataset:
  """Corrupts windows, some at a time, and hands them out one by one, with their counts.

  Args:
    windows: {"tokens": int32 [B, L], "counts": int64 [B, 4], ...}.
    corrupt: window -> features [B, ...]. Of these "hidden", bool [B, L], marks the tokens of the
      window that the model has to find out, and rows where "useful", bool [B], is false are left
      out and counted. Both may be absent.
    keep_raw: whether examples hold "raw", int32 [L], their window, and "raw_hidden", bool [L],
      what is "hidden" of it.
  """

  def apply(window):
    features = dict(corrupt(window))
    hidden = features.pop("hidden", None)
    if keep_raw:
      features["raw"] = window["tokens"]
      if hidden is not None:
        features["raw_hidden"] = hidden
    return {**features, "counts": window["counts"]}

  def drop(before, batch):
    useful = batch["useful"]
    now = before + tf.reduce_sum(tf.cast(~useful, tf.int64))
    counts = tf.concat([batch["counts"][:, :-1], batch["counts"][:, -1:] + now], axis=1)
    batch = {k: v for k, v in {**batch, "counts": counts}.items() if k != "useful"}
    return now, {k: tf.boolean_mask(v, useful) for k, v in batch.items()}

  batches = windows.map(apply, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
  if "useful" in batches.element_spec:
    batches = batches.scan(np.int64(0), drop)
  return batches.unbatch()


def total(counts: np.ndarray) -> dict[str, int]:
  """{kind: sum} of int64 [components, 4]."""
  sums = counts.reshape(-1, len(KINDS)).sum(axis=0)
  return {kind: int(n) for kind, n in zip(KINDS, sums, strict=True)}


def describe(counts: Iterable[np.ndarray]) -> str:
  """What was skipped or repaired, in one line, "" where nothing was.

  Args:
    counts: of each data stream.
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
