"""Text to text (T5): a corpus gives an input and a target, and only the target is predicted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from t5x_style.data import arrays
from t5x_style.data.objectives import supervised
from t5x_style.data.objectives.base import ExamplesOfDocument, Objective, Preprocessor
from t5x_style.data.tokenizers import token_ids
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.data.tokenizers.vocabulary import Vocabulary

if TYPE_CHECKING:
  from t5x_style.data.tensorflow_setup import tf


@dataclasses.dataclass(frozen=True)
class TextToText(Objective):
  """inputs = text, EOS; targets = target, EOS (Raffel et al. 2019, section 2.4).

  encoder_decoder: the encoder reads the inputs, the decoder writes the targets.
  decoder_only: one sequence of inputs and targets, each with its EOS; the inputs carry no loss.
  Several short examples share a row (PACK), and do not see each other. A text that is too long
  for its feature loses its end.

  Attributes:
    bidirectional_inputs: decoder-only models read the inputs in both directions, as those do that
      learnt prefix LM or UL2; False: from left to right, as those do that learnt causal LM.
  """

  name = "text_to_text"
  architectures = ("encoder_decoder", "decoder_only")
  how_apart = "always"
  target_is_text = True
  exact_match = True
  reads_documents: ClassVar[bool] = True

  bidirectional_inputs: bool = False

  def for_corpus(self, corpus: Any) -> TextToText:
    supervised.targets_of(corpus, self.name)
    return self

  @property
  def examples_share_rows(self) -> bool:
    return True

  @property
  def causal_inputs(self) -> bool:
    return not self.bidirectional_inputs

  def features(self, architecture: str) -> tuple[str, ...]:
    return ("inputs", "targets")

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    why = "a token and EOS are the shortest text"
    return {
      name: self.required_length(feature_lengths, name, 2, why) for name in ("inputs", "targets")
    }

  def check_texts(
    self, documents: Callable[[], tf.data.Dataset], lengths: Mapping[str, int], where: str
  ) -> None:
    room = {
      "targets": ("inputs", lengths["inputs"] - 1),
      "target_tokens": ("targets", lengths["targets"] - 1),
    }
    supervised.warn_of_cut_texts(documents, room, where)

  def examples_of_document(
    self, ids: TokenIds, lengths: Mapping[str, int], architecture: str
  ) -> ExamplesOfDocument:
    """Returns document -> its only example, {"inputs": int32 [n], "targets": int32 [m]}."""
    eos = np.array([ids.eos_id], np.int32)

    def example(document):
      text, target = document["targets"], document["target_tokens"]
      xp = arrays.of(text)
      return {
        "inputs": xp.concat([text[: lengths["inputs"] - 1], eos]),
        "targets": xp.concat([target[: lengths["targets"] - 1], eos]),
      }

    return example

  def most_tokens(
    self,
    tokens: np.ndarray,
    targets: np.ndarray | None,
    lengths: Mapping[str, int],
    architecture: str,
  ) -> dict[str, np.ndarray]:
    assert targets is not None
    return {
      "inputs": np.minimum(tokens + 1, lengths["inputs"]),
      "targets": np.minimum(targets + 1, lengths["targets"]),
    }

  def preprocessor(
    self, vocabulary: Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    example = self.examples_of_document(token_ids.of(vocabulary), lengths, architecture)
    return lambda documents: documents.map(example)
