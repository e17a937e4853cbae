"""Classification of texts by an encoder (BERT): the corpus has a label for each text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import seqio
import tensorflow as tf

from t5x_style.data import skip_counts
from t5x_style.data.corpora.reading import record_cache
from t5x_style.data.objectives import supervised
from t5x_style.data.objectives.base import Objective, Preprocessor
from t5x_style.data.tokenizers import special_tokens
from t5x_style.errors import UserError, shortened
from t5x_style.setting_types import Text

_ADVICE = (
  "Is it a field of labels? For texts as targets use objectives/text_to_text.gin with a model that "
  "has a decoder."
)


@dataclasses.dataclass(frozen=True)
class Classification(Objective):
  """[CLS] text [SEP], of which the label is predicted at [CLS] (Devlin et al. 2018, section 4.1).

  The model needs a head with as many classes as there are labels (NUM_CLASSES). A text that is too
  long for its row loses its end.

  Attributes:
    labels: the names of the classes, in the order of their numbers; None: those of the corpus,
      sorted.
  """

  name = "classification"
  architectures = ("encoder_only",)
  how_apart = "always"

  labels: tuple[Text, ...] | None = None

  def for_corpus(self, corpus: Any) -> Classification:
    targets = supervised.targets_of(corpus, self.name)
    train, everywhere = targets.get("train", {}), set().union(*targets.values())
    if len(everywhere) > record_cache.MOST_LABELS:
      raise UserError(
        f"the corpus has more than {record_cache.MOST_LABELS:,} different labels, such as "
        f"{', '.join(map(repr, sorted(everywhere)[:3]))}. {_ADVICE}"
      )
    known = sorted(train) if self.labels is None else list(self.labels)
    if len(set(known)) < len(known):
      raise UserError(f"LABELS = {tuple(known)} names a label twice.")
    if len(known) < 2:
      raise UserError(
        f"all texts have the label {', '.join(map(repr, known))}: there is nothing to tell apart. "
        "Set TARGET_FIELD to a field with two labels or more."
      )
    for split, counts in sorted(targets.items()):
      if unknown := sorted(counts.keys() - set(known)):
        source = "LABELS names" if self.labels is not None else "the 'train' split has"
        raise UserError(
          f"the {split!r} split has {sum(counts[x] for x in unknown):,} texts with unknown labels: "
          f"{', '.join(shortened(list(map(repr, unknown))))}; {source} "
          f"{', '.join(shortened(list(map(repr, known))))}. Correct them, or set LABELS to all."
        )
    return dataclasses.replace(self, labels=tuple(known))

  @property
  def label_names(self) -> tuple[str, ...]:
    return self.labels or ()

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    length = self.required_length(
      feature_lengths, "inputs", 3, "[CLS], [SEP] and a token are the shortest row"
    )
    return {"inputs": length, "targets": length}

  def check(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> None:
    self.check_architecture(architecture)
    for piece in ("[CLS]", "[SEP]"):
      special_tokens.special_id(vocabulary, piece)

  def max_targets(self, lengths: Mapping[str, int], architecture: str) -> int:
    return 1

  def check_texts(
    self, documents: Callable[[], tf.data.Dataset], lengths: Mapping[str, int], where: str
  ) -> None:
    supervised.warn_of_cut_texts(documents, {"targets": ("inputs", lengths["inputs"] - 2)}, where)

  def preprocessor(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    length = lengths["inputs"]
    cls, sep = (special_tokens.special_id(vocabulary, piece) for piece in ("[CLS]", "[SEP]"))
    names = tf.constant(self.label_names)
    at_first = tf.constant([1.0] + [0.0] * (length - 1))

    def frame(document):
      tokens = document["targets"][: length - 2]
      row = tf.concat([[cls], tokens, [sep]], axis=0)
      row = tf.ensure_shape(tf.pad(row, [[0, length - tf.size(row)]]), [length])
      return {
        "inputs": row,
        "targets": row,
        "loss_weights": at_first,
        "pair_label": tf.argmax(names == document["target"], output_type=tf.int32),
        skip_counts.KEY: document[skip_counts.KEY],
      }

    return lambda documents: skip_counts.usable(documents).map(frame)
