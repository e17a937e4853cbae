"""Classification of texts by an encoder (BERT): the corpus has a label for each text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from t5x_style.data import arrays, skip_counts
from t5x_style.data.corpora.reading.record_files import MOST_LABELS
from t5x_style.data.objectives import supervised
from t5x_style.data.objectives.base import ExamplesOfDocument, Objective, Preprocessor
from t5x_style.data.tokenizers import token_ids
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.data.tokenizers.vocabulary import Vocabulary
from t5x_style.errors import UserError, shortened
from t5x_style.setting_types import Text

if TYPE_CHECKING:
  from t5x_style.data.tensorflow_setup import tf

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
  reads_documents: ClassVar[bool] = True

  labels: tuple[Text, ...] | None = None

  def for_corpus(self, corpus: Any) -> Classification:
    targets = supervised.targets_of(corpus, self.name)
    train, everywhere = targets.get("train", {}), set().union(*targets.values())
    if len(everywhere) > MOST_LABELS:
      raise UserError(
        f"the corpus has more than {MOST_LABELS:,} different labels, such as "
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

  def check(self, ids: TokenIds, lengths: Mapping[str, int], architecture: str) -> None:
    self.check_architecture(architecture)
    for piece in ("[CLS]", "[SEP]"):
      ids.special_id(piece)

  def max_targets(self, lengths: Mapping[str, int], architecture: str) -> int:
    return 1

  def check_texts(
    self, documents: Callable[[], tf.data.Dataset], lengths: Mapping[str, int], where: str
  ) -> None:
    supervised.warn_of_cut_texts(documents, {"targets": ("inputs", lengths["inputs"] - 2)}, where)

  def examples_of_document(
    self, ids: TokenIds, lengths: Mapping[str, int], architecture: str
  ) -> ExamplesOfDocument:
    """Returns document -> the features of its only example."""
    length = lengths["inputs"]
    cls, sep = (np.array([ids.special_id(x)], np.int32) for x in ("[CLS]", "[SEP]"))
    at_first = np.array([1] + [0] * (length - 1), np.float32)

    def example(document):
      tokens = document["targets"][: length - 2]
      xp = arrays.of(tokens)
      row = xp.concat([cls, tokens, sep])
      row = xp.in_rows(xp.pad(row, 0, length - xp.size(row)), length)[0]
      label = xp.index_of(self.label_names, document["target"])
      return {"inputs": row, "targets": row, "loss_weights": at_first, "pair_label": label}

    return example

  def preprocessor(
    self, vocabulary: Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    example = self.examples_of_document(token_ids.of(vocabulary), lengths, architecture)

    def with_counts(document):
      return {**example(document), skip_counts.KEY: document[skip_counts.KEY]}

    return lambda documents: skip_counts.usable(documents).map(with_counts)
