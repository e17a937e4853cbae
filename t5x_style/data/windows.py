"""Cuts the stream of tokenised documents into windows of one raw length."""

from __future__ import annotations

import tensorflow as tf

from t5x_style.data import noise, skipping

# Windows that are corrupted at once: enough to hide the cost of an op, few enough to start quickly
# and to keep saved positions small. It does not change what comes out.
ROWS = 16


def windows(
  documents: tf.data.Dataset, length: int, *, eos_id: int, min_length: int = 1, rows: int = ROWS
) -> tf.data.Dataset:
  """Joins documents with EOS and cuts the stream every `length` tokens.

  Documents without tokens are left out. Where the stream ends (it does in evaluation; a training
  stream runs on into its next epoch) the rest is one shorter window, left out when it has fewer
  than `min_length` tokens.

  Args:
    documents: {"targets": int32 [n] without EOS, "noise_seed": int64 [2]}.
    length: raw tokens of a window, L.
    eos_id: put behind each document.
    min_length: the shortest window that the caller can use.
    rows: windows in an element, B; the last element may have fewer.

  Returns:
    a dataset of {"tokens": int32 [B, L], zeros behind the end of the stream,
    "lengths": int32 [B], "seeds": uint64 [B], a seed for the noise of each window,
    "counts": int64 [B, 4], see t5x_style.data.skipping}.
  """
  auto = tf.data.AUTOTUNE

  def join(document):
    tokens = tf.concat([document["targets"], [eos_id]], axis=0)
    salts = tf.fill(tf.shape(tokens), noise.salt(document["noise_seed"]))
    counts = tf.tile(document["counts"][None], [tf.size(tokens), 1])
    return {"tokens": tokens, "salts": salts, "counts": counts}

  def fold(stream):
    n = tf.shape(stream["tokens"])[0]
    count = (n + length - 1) // length
    padding = [[0, count * length - n]]
    tokens = tf.reshape(tf.pad(stream["tokens"], padding), [-1, length])
    salts = tf.reshape(tf.pad(stream["salts"], padding), [-1, length])[:, 0]
    lengths = tf.minimum(length, n - tf.range(count) * length)
    # The rest of an element that is the stream's end is filled up with zeros.
    seen = tf.pad(stream["counts"], [*padding, [0, 0]])
    seen = tf.reduce_max(tf.reshape(seen, [-1, length, len(skipping.KINDS)]), axis=1)
    if min_length > 1:
      count -= tf.cast(lengths[-1] < min_length, tf.int32)
    return {
      "tokens": tokens[:count],
      "lengths": lengths[:count],
      "seeds": noise.window_seeds(tokens, salts)[:count],
      "counts": seen[:count],
    }

  # `join` only copies: a parallel map would hold more documents back.
  stream = skipping.usable(documents).map(join)
  return stream.rebatch(length * rows).map(fold, num_parallel_calls=auto, deterministic=True)


def examples(
  documents: tf.data.Dataset, length: int, corrupt: skipping.Corrupter, *, eos_id: int
) -> tf.data.Dataset:
  """The windows of `documents`, corrupted, one by one; the shortest one has two tokens.

  Args:
    documents: as of `windows`; where they have a feature "keep_raw" the examples hold their window.
    length: raw tokens of a window, L.
    corrupt: see skipping.examples.
    eos_id: put behind each document.
  """
  cut = windows(documents, length, eos_id=eos_id, min_length=2)
  return skipping.examples(cut, corrupt, keep_raw="keep_raw" in documents.element_spec)


def segment_ids(tokens: tf.Tensor, eos_id: int) -> tf.Tensor:
  """Numbers the documents of each window from 1; padding is 0.

  tokens  [[7, 8, EOS, 9, EOS, 0]]
  returns [[1, 1,   1, 2,   2, 0]]
  """
  ends = tf.cast(tokens == eos_id, tf.int32)
  return tf.where(tokens > 0, 1 + tf.cumsum(ends, axis=1, exclusive=True), 0)


def with_eos(tokens: tf.Tensor, n: tf.Tensor, eos_id: int, length: int) -> tf.Tensor:
  """int32 [B, L] -> [B, length], EOS behind each row's own `n` tokens."""
  padded = tf.pad(tokens, [[0, 0], [0, length - tokens.shape[1]]])
  return tf.where(tf.range(length)[None, :] == n[:, None], eos_id, padded)
