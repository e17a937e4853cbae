"""TrainedModel.embed: texts as vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from t5x_style.errors import UserError, require_positive
from t5x_style.inference import embedding
from t5x_style.inference.embedding import POOLINGS, Pooling
from t5x_style.trained import prompts
from t5x_style.trained.abilities import Ability, ability_for
from t5x_style.trained.loaded_model import LoadedModel
from t5x_style.trained.prompts import Prompt


@dataclasses.dataclass(frozen=True)
class Embedding:
  """Turns texts into vectors; the settings are those of `embed`.

  Raises:
    UserError: a setting is wrong.
  """

  trained: LoadedModel
  pooling: Pooling | None = None
  batch_size: int = 16

  def __post_init__(self):
    if self.pooling is not None and self.pooling not in POOLINGS:
      raise UserError(f"pooling = {self.pooling!r} is not one of {', '.join(POOLINGS)}.")
    require_positive(batch_size=self.batch_size)

  @property
  def ability(self) -> Ability:
    """How the model reads a text."""
    return ability_for(self.trained, "embed")

  def prompt(self, text: str, mode: str | None = None) -> Prompt:
    """Returns a text as the model reads it.

    Raises:
      UserError: the text is empty or too long, or a mode token is given, which vectors do not have.
    """
    if mode is not None:
      raise UserError(f"The mode token {mode!r} is for models that write; a vector has none.")
    return prompts.embedded(self.trained, self.ability, text)

  def run(self, rows: Sequence[Prompt], seed: int = 0, first_row: int = 0) -> np.ndarray:
    """Returns the vectors of texts, float32 [N, D]; nothing is drawn."""
    trained = self.trained
    with trained.partitioner.context():
      return embedding.embed(
        trained.model,
        trained.params,
        [row.encoder or row.decoder for row in rows],
        self.pooling or default_pooling(trained),
        batch_size=self.batch_size,
      )


def default_pooling(trained: LoadedModel) -> Pooling:
  """Returns which tokens' states are a model's vector of a text, where the user does not say.

  A decoder has read the whole text only at the last token; the pooler of sentence pairs was trained
  on the first one; otherwise the mean of all (Sentence-BERT, Reimers and Gurevych 2019, section 3).
  """
  if trained.config.architecture == "decoder_only":
    return "last"
  return "first" if trained.config.pooled_classes else "mean"


def embed(
  trained: LoadedModel,
  texts: str | Sequence[str],
  *,
  pooling: Pooling | None = None,
  batch_size: int = 16,
) -> np.ndarray:
  """Returns vectors of texts, float32 [texts, D]; see TrainedModel.embed."""
  task = Embedding(trained, pooling, batch_size)
  return task.run(prompts.of_texts(texts, task.prompt))
