"""Pairs of segments for a pooled head: which document, which order (NSP of BERT, SOP of ALBERT)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import seqio
import tensorflow as tf

from t5x_style.data import noise, skipping
from t5x_style.data.objectives.base import Preprocessor
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.tokenizers import special_tokens
from t5x_style.data.tokenizers.words_and_sentences import WordsAndSentences
from t5x_style.errors import UserError

_SHORTEST = 4  # tokens of a pair: two a side


@dataclasses.dataclass(frozen=True)
class _SentencePairs(MaskedLM):
  """[CLS] A [SEP] B [SEP] with masks, A and B cut at a sentence end inside one document.

  token_types are 0 for A with its [CLS] and [SEP], 1 for B with its own; pair_label is 0 for the
  pair as it stands in the text. Documents are cut one by one, so the last row of each is padded.
  """

  name = ""

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    length = self.required_length(
      feature_lengths, "inputs", _SHORTEST + 3, "[CLS], two [SEP] and two tokens a side"
    )
    return {"inputs": length, "targets": length}

  def max_targets(self, lengths: Mapping[str, int], architecture: str) -> int:
    return max(1, round(self.mask_rate * (lengths["inputs"] - 3)))

  def arranged(self, documents: tf.data.Dataset) -> tf.data.Dataset:
    """The documents with what `segments` needs of others, as "other_targets" and "other_ends"."""
    return documents

  def segments(self, chunks: tf.Tensor, row: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    """(A, its lengths, B, its lengths, labels) of the chunks of a document; see `preprocessor`."""
    raise NotImplementedError

  def preprocessor(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    length = lengths["inputs"] - 3
    cls, sep = (special_tokens.special_id(vocabulary, piece) for piece in ("[CLS]", "[SEP]"))
    corrupt = self.corrupter(vocabulary, self.max_targets(lengths, architecture))
    spelling = WordsAndSentences(vocabulary)

    def find_sentences(document):
      return {**document, "ends": spelling.sentence_ends(document["targets"][None])[0]}

    def cut(document):
      chunks, n = _chunks(document["targets"], length)
      salts = tf.fill(tf.shape(n), noise.salt(document["noise_seed"]))
      return {
        "tokens": chunks,
        "ends": _chunks(document["ends"], length)[0],
        "lengths": n,
        "seeds": noise.window_seeds(chunks, salts),
        "counts": tf.tile(document["counts"][None], [tf.size(n), 1]),
        **{name: value for name, value in document.items() if name.startswith("other_")},
      }

    def pair(row):
      chunks, n, seeds = row["tokens"], row["lengths"], row["seeds"]
      split = _split(n, noise.fold_in(seeds, 10), row["ends"])
      row = {**row, "split": split}
      first, first_n, second, second_n, labels = self.segments(chunks, row)
      tokens, types = _frame(first, first_n, second, second_n, cls, sep, lengths["inputs"])
      features = corrupt(tokens, seeds) | {"token_types": types, "pair_label": labels}
      return {**features, "useful": tf.reduce_any(features["loss_weights"] > 0, axis=1)}

    def preprocess(documents: tf.data.Dataset) -> tf.data.Dataset:
      usable = skipping.usable(documents, _SHORTEST)
      # Of two at once, as more would hold more documents back.
      usable = usable.map(find_sentences, num_parallel_calls=2, deterministic=True)
      chunks = self.arranged(usable).map(cut)
      return skipping.examples(chunks, pair, keep_raw="keep_raw" in documents.element_spec)

    return preprocess


@dataclasses.dataclass(frozen=True)
class NextSentence(_SentencePairs):
  """NSP (Devlin et al. 2018, section 3.1): B follows A (label 0) or is of another document (1).

  The other document is the last one before it in the stream, for the first document the one after
  it; copies of a document count as one, and so do the parts of one that is read as several. Half of
  the pairs of a document are labelled 1, on average. Where a stream has one document only, as may
  be in validation, all its pairs are labelled 0; to train on such a stream is refused.
  """

  name = "next_sentence"

  def check_documents(self, documents: Callable[[], tf.data.Dataset], where: str) -> None:
    usable = _with_other(skipping.usable(documents(), _SHORTEST))
    if not list(usable.filter(lambda document: tf.size(document["other_targets"]) > 0).take(1)):
      raise UserError(
        f"{self.name} takes half of the second segments from another document, but {where} has "
        "one document, or copies of one. Give CORPUS more documents (CORPUS_DOCUMENTS = 'line' "
        "where each line of a file is one), lower DATA_STREAMS if it is above 1, or include "
        "objectives/sentence_order.gin, which needs one document only."
      )

  def arranged(self, documents: tf.data.Dataset) -> tf.data.Dataset:
    return _with_other(documents)

  def segments(self, chunks: tf.Tensor, row: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    n, split, seeds, other = row["lengths"], row["split"], row["seeds"], row["other_targets"]
    length = chunks.shape[1]
    available = tf.size(other)
    swap = (noise.uniform(noise.fold_in(seeds, 11), 1)[:, 0] < 0.5) & (available > 0)
    place = tf.range(length)[None, :]
    # A stretch of the other document, as long as what it replaces where there is so much. It begins
    # with a sentence, as what it replaces does: how B begins must not tell the label.
    strange_n = tf.minimum(n - split, available)
    starts = tf.cast(1 + tf.where(row["other_ends"][:-1])[:, 0], tf.int32)
    starts = tf.concat([[0], starts], axis=0)
    count = tf.searchsorted(starts, available - strange_n, side="right")
    start = tf.gather(starts, noise.integers(noise.fold_in(seeds, 12), 1, count[:, None]))
    where = tf.minimum(start + place, tf.maximum(available - 1, 0))
    strange = tf.gather(tf.concat([other, [0]], axis=0), where)
    follows = _shifted(chunks, split)
    second = tf.where(swap[:, None], strange, follows)
    return chunks, split, second, tf.where(swap, strange_n, n - split), tf.cast(swap, tf.int32)


@dataclasses.dataclass(frozen=True)
class SentenceOrder(_SentencePairs):
  """SOP (Lan et al. 2019, section 3.1): A before B as in the text (label 0) or swapped (1)."""

  name = "sentence_order"

  def segments(self, chunks: tf.Tensor, row: dict[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
    n, split, seeds = row["lengths"], row["split"], row["seeds"]
    swap = noise.uniform(noise.fold_in(seeds, 11), 1)[:, 0] < 0.5
    follows = _shifted(chunks, split)
    first = tf.where(swap[:, None], follows, chunks)
    second = tf.where(swap[:, None], chunks, follows)
    first_n, second_n = tf.where(swap, n - split, split), tf.where(swap, split, n - split)
    return first, first_n, second, second_n, tf.cast(swap, tf.int32)


def _with_other(documents: tf.data.Dataset) -> tf.data.Dataset:
  """Adds another document, as "other_targets" and "other_ends": the last one before that is
  another, else the next one, else nothing.

  documents  A     A  B  B  A  C          A  A
  other      none  B  A  A  B  A          none for both
  """
  # A document is held back until the next has come, the last one until this mark.
  end = {
    name: tf.zeros([n or 0 for n in spec.shape], spec.dtype)
    for name, spec in documents.element_spec.items()
  }

  def step(state, document):
    held, before = state["held"], state["before"]
    differ = ~_same(held, document)
    after = tf.cond(differ, lambda: _part(document), lambda: _part(end))
    other = tf.cond(tf.size(before["targets"]) > 0, lambda: before, lambda: after)
    before = tf.cond(differ, lambda: _part(held), lambda: before)
    named = {f"other_{name}": value for name, value in other.items()}
    return {"held": document, "before": before}, {**held, **named}

  ended = documents.concatenate(tf.data.Dataset.from_tensors(end))
  with_other = ended.scan({"held": end, "before": _part(end)}, step)
  return with_other.filter(lambda document: tf.size(document["targets"]) > 0)


def _part(document: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  return {name: document[name] for name in ("targets", "ends") if name in document}


def _same(one: dict[str, tf.Tensor], other: dict[str, tf.Tensor]) -> tf.Tensor:
  """Whether two are of one document: parts of it, or copies."""
  a, b = one["targets"], other["targets"]
  n = tf.minimum(tf.size(a), tf.size(b))
  copies = tf.equal(tf.size(a), tf.size(b)) & tf.reduce_all(tf.equal(a[:n], b[:n]))
  if "document" not in one:
    return copies
  real = (tf.size(a) > 0) & (tf.size(b) > 0)
  return copies | (real & tf.equal(one["document"], other["document"]))


def _chunks(tokens: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
  """[n] -> ([B, length], lengths [B]); a rest of fewer than four tokens is left out."""
  n = tf.size(tokens)
  count = (n + length - 1) // length
  rows = tf.reshape(tf.pad(tokens, [[0, count * length - n]]), [-1, length])
  lengths = tf.minimum(length, n - tf.range(count) * length)
  count -= tf.cast(lengths[-1] < _SHORTEST, tf.int32)
  return rows[:count], lengths[:count]


def _split(n: tf.Tensor, seeds: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
  """int32 [B]: the length of A, up to a sentence end with two tokens on either side, if any."""
  place = tf.range(ends.shape[1])[None, :]
  inside = (place >= 1) & (place < n[:, None] - 2)
  sentence = inside & ends
  eligible = tf.where(tf.reduce_any(sentence, axis=1, keepdims=True), sentence, inside)
  last, _ = noise.choose(seeds, eligible, tf.ones_like(n), 1)
  return last[:, 0] + 1


def _shifted(chunks: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
  """Row b from position by[b] on."""
  length = chunks.shape[1]
  place = tf.minimum(tf.range(length)[None, :] + by[:, None], length - 1)
  return tf.gather(chunks, place, batch_dims=1)


def _frame(
  first: tf.Tensor,
  first_n: tf.Tensor,
  second: tf.Tensor,
  second_n: tf.Tensor,
  cls: int,
  sep: int,
  length: int,
) -> tuple[tf.Tensor, tf.Tensor]:
  """[CLS] A [SEP] B [SEP] as tokens and token types, int32 [B, length] each."""
  rows, width = tf.shape(first)[0], first.shape[1]
  one = tf.ones([rows, 1], tf.int32)
  always = tf.fill([rows, 1], True)
  place = tf.range(width)[None, :]
  values = tf.concat([one * cls, first, one * sep, second, one * sep], axis=1)
  keep = tf.concat(
    [always, place < first_n[:, None], always, place < second_n[:, None], always], axis=1
  )
  types = tf.concat(
    [tf.zeros([rows, width + 2], tf.int32), tf.ones([rows, width + 1], tf.int32)], 1
  )
  return noise.compact(values, keep, length), noise.compact(types, keep, length)
