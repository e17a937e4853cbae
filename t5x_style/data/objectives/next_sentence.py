"""Next-sentence prediction: masked tokens, and whether the second segment follows (BERT)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from t5x_style.data import arrays, noise, skip_counts
from t5x_style.data.arrays import Array, Features
from t5x_style.data.objectives.sentence_pairs import SHORTEST, SentencePairs, shifted
from t5x_style.errors import UserError

if TYPE_CHECKING:
  from t5x_style.data.tensorflow_setup import tf


@dataclasses.dataclass(frozen=True)
class NextSentence(SentencePairs):
  """NSP (Devlin et al. 2018, section 3.1): B follows A (label 0) or is from another document (1).

  The other document is the last different one before in the stream or, if there is none, the
  next one. Copies of a document are not different, and neither are the parts of a long one that is
  read as several. On average half of the pairs of a document have label 1. Where a stream has only
  one document, as may be in validation, all pairs have label 0; training refuses such a stream.
  """

  name = "next_sentence"
  reads_other_document: ClassVar[bool] = True

  def with_cross_documents(self, cross: bool) -> NextSentence:
    if not cross:
      raise UserError(
        f"CROSS_DOCUMENTS = False: {self.name} asks whether a segment follows another one or is "
        "from another document, so both have to be seen together. Leave CROSS_DOCUMENTS at None, "
        "or include objectives/sentence_order.gin, whose pairs are of one document."
      )
    return self

  def check_documents(self, documents: Callable[[], tf.data.Dataset], where: str) -> None:
    from t5x_style.data.tensorflow_setup import tf

    usable = _with_other(skip_counts.usable(documents(), SHORTEST))
    if not list(usable.filter(lambda document: tf.size(document["other_targets"]) > 0).take(1)):
      raise UserError(
        f"{self.name} takes half of the second segments from another document, but {where} has "
        "one document, or copies of one. Give CORPUS more documents (CORPUS_DOCUMENTS = 'line' "
        "where each line of a file is one), lower DATA_STREAMS if it is above 1, or include "
        "objectives/sentence_order.gin, which needs one document only."
      )

  def arranged(self, documents: tf.data.Dataset) -> tf.data.Dataset:
    return _with_other(documents)

  def segments(self, chunks: Array, row: Features) -> tuple[Array, ...]:
    n, split, seeds, other = row["lengths"], row["split"], row["seeds"], row["other_targets"]
    xp = arrays.of(chunks)
    available = xp.size(other)
    swap = (noise.uniform(noise.fold_in(seeds, 11), 1)[:, 0] < 0.5) & (available > 0)
    # A part of the other document, as long as the text it replaces where possible. It begins with a
    # sentence, as that text does: the beginning of B must not give the label away.
    strange_n = xp.minimum(n - split, available)
    starts = xp.pad(1 + xp.indices(row["other_ends"][:-1]), 1, 0)
    count = xp.searchsorted(starts, available - strange_n, side="right")
    start = xp.take(starts, noise.integers(noise.fold_in(seeds, 12), 1, count[:, None]))
    place = xp.minimum(start + arrays.places(chunks.shape[1]), xp.maximum(available - 1, 0))
    strange = xp.take(xp.pad(other, 0, 1), place)
    second = xp.where(swap[:, None], strange, shifted(chunks, split))
    second_n = xp.where(swap, strange_n, n - split)
    return chunks, split, second, second_n, xp.cast(swap, np.int32)


def _with_other(documents: tf.data.Dataset) -> tf.data.Dataset:
  """Adds a different document, as "other_targets" and "other_ends": the last one before, else the
  next one, else an empty one.

  documents  A     A  B  B  A  C          A  A
  other      none  B  A  A  B  A          none for both
  """
  from t5x_style.data.tensorflow_setup import tf

  # A document is held back until the next one arrives, the last one until this mark.
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


def _part(document: Features) -> Features:
  """Returns the features that are added to other documents."""
  return {name: document[name] for name in ("targets", "ends") if name in document}


def _same(one: Features, other: Features) -> Array:
  """Returns whether two documents are copies, or parts of one document."""
  from t5x_style.data.tensorflow_setup import tf

  a, b = one["targets"], other["targets"]
  n = tf.minimum(tf.size(a), tf.size(b))
  copies = tf.equal(tf.size(a), tf.size(b)) & tf.reduce_all(tf.equal(a[:n], b[:n]))
  if "document" not in one:
    return copies
  real = (tf.size(a) > 0) & (tf.size(b) > 0)
  return copies | (real & tf.equal(one["document"], other["document"]))
