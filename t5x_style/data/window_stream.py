"""Cuts a stream of tokenised documents, joined or each on its own, into windows of one length."""

from __future__ import annotations

from t5x_style.data import noise, skip_counts
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.windows import CorruptWindow, cuts_of_document

# How many windows are corrupted at once: enough to hide the cost of an op, few enough to start
# quickly and to keep saved positions small. The examples do not depend on it.
AT_ONCE = 16


def windows(
  documents: tf.data.Dataset, length: int, *, eos_id: int, min_length: int = 1, rows: int = AT_ONCE
) -> tf.data.Dataset:
  """Joins documents with EOS and cuts the stream every `length` tokens.

  Documents without tokens are left out. An evaluation stream ends, and its last window is shorter;
  it is left out when it has fewer than `min_length` tokens. A training stream continues with its
  next epoch.

  Args:
    documents: {"targets": int32 [n] without EOS, "noise_seed": int64 [2]}.
    length: raw tokens of a window, L.
    eos_id: put after each document.
    min_length: the shortest window that the caller can use.
    rows: windows in an element, B; the last element may have fewer.

  Returns:
    a dataset of {"tokens": int32 [B, L], zeros after the end of the stream,
    "lengths": int32 [B], "seeds": uint64 [B], a seed for the noise of each window,
    skip_counts.KEY: int64 [B, 4]}.
  """
  auto = tf.data.AUTOTUNE

  def join(document):
    tokens = tf.concat([document["targets"], [eos_id]], axis=0)
    salts = tf.fill(tf.shape(tokens), noise.salt(document["noise_seed"]))
    counts = tf.tile(document[skip_counts.KEY][None], [tf.size(tokens), 1])
    return {"tokens": tokens, "salts": salts, skip_counts.KEY: counts}

  def fold(stream):
    n = tf.shape(stream["tokens"])[0]
    count = (n + length - 1) // length
    padding = [[0, count * length - n]]
    tokens = tf.reshape(tf.pad(stream["tokens"], padding), [-1, length])
    salts = tf.reshape(tf.pad(stream["salts"], padding), [-1, length])[:, 0]
    lengths = tf.minimum(length, n - tf.range(count) * length)
    # The last window of the stream is filled up with zeros.
    counts = tf.pad(stream[skip_counts.KEY], [*padding, [0, 0]])
    counts = tf.reduce_max(tf.reshape(counts, [-1, length, len(skip_counts.KINDS)]), axis=1)
    if min_length > 1:
      count -= tf.cast(lengths[-1] < min_length, tf.int32)
    return {
      "tokens": tokens[:count],
      "lengths": lengths[:count],
      "seeds": noise.window_seeds(tokens, salts)[:count],
      skip_counts.KEY: counts[:count],
    }

  # `join` only copies: a parallel map would hold more documents back.
  stream = skip_counts.usable(documents).map(join)
  return stream.rebatch(length * rows).map(fold, num_parallel_calls=auto, deterministic=True)


def windows_of_each(
  documents: tf.data.Dataset, length: int, rows: int = AT_ONCE
) -> tf.data.Dataset:
  """Cuts every document on its own into windows of `length` tokens, the last one shorter.

  Windows have no EOS, and two tokens at least: if one would be left, the window before it is one
  shorter. Documents of fewer are left out. Arguments and results are as in `windows`.
  """

  def cut(document):
    tokens = document["targets"]
    n = tf.size(tokens)
    starts, ends = cuts_of_document(n, length)
    place = starts[:, None] + tf.range(length)[None, :]
    cut_out = tf.where(place < ends[:, None], tf.gather(tokens, tf.minimum(place, n - 1)), 0)
    salts = tf.fill(tf.shape(starts), noise.salt(document["noise_seed"]))
    return {
      "tokens": cut_out,
      "lengths": ends - starts,
      "seeds": noise.window_seeds(cut_out, salts),
      skip_counts.KEY: tf.tile(document[skip_counts.KEY][None], [tf.size(starts), 1]),
    }

  return skip_counts.usable(documents, 2).map(cut).rebatch(rows)


def examples(
  documents: tf.data.Dataset,
  length: int,
  corrupt: CorruptWindow,
  *,
  eos_id: int,
  joined: bool = True,
) -> tf.data.Dataset:
  """Cuts documents into windows of two tokens or more and returns them corrupted, one by one.

  Args:
    documents: as in `windows`; if they have a feature "keep_raw", the examples hold their window.
    length: raw tokens of a window, L.
    corrupt: see `corrupted`.
    eos_id: put after each document, if they are joined.
    joined: whether windows cross the ends of documents (`windows`) or not (`windows_of_each`).
  """
  if joined:
    cut = windows(documents, length, eos_id=eos_id, min_length=2)
  else:
    cut = windows_of_each(documents, length)
  return corrupted(cut, corrupt, keep_raw="keep_raw" in documents.element_spec)


def corrupted(cut: tf.data.Dataset, corrupt: CorruptWindow, *, keep_raw: bool) -> tf.data.Dataset:
  """Corrupts windows, several at once, and returns examples, one by one, with their counts.

  Args:
    cut: {"tokens": int32 [B, L], skip_counts.KEY: int64 [B, 4], ...}.
    corrupt: see windows.CorruptWindow; rows that are not "useful" are left out and counted.
    keep_raw: whether examples hold "raw", int32 [L], their window, and "raw_hidden", bool [L], the
      value of "hidden".
  """

  def apply(window):
    features = dict(corrupt(window))
    hidden = features.pop("hidden", None)
    if keep_raw:
      features["raw"] = window["tokens"]
      if hidden is not None:
        features["raw_hidden"] = hidden
    return {**features, skip_counts.KEY: window[skip_counts.KEY]}

  batches = cut.map(apply, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
  if "useful" in batches.element_spec:
    batches = skip_counts.drop_useless(batches)
  return batches.unbatch()
