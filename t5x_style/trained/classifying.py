"""TrainedModel.classify: labels of texts, by an encoder that was fine-tuned for it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence

from t5x_style.errors import UserError, require_positive
from t5x_style.inference.classification import class_probabilities
from t5x_style.trained import prompts
from t5x_style.trained.abilities import Ability, ability_for
from t5x_style.trained.loaded_model import LoadedModel
from t5x_style.trained.prompts import Prompt


@dataclasses.dataclass(frozen=True)
class Classified:
  """The label of a text.

  Attributes:
    label: the likeliest one.
    probability: of this label.
    probabilities: of all labels, the likeliest first; their sum is 1.
  """

  label: str
  probability: float
  probabilities: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Classifying:
  """Classifies texts; the settings are those of `classify`.

  Raises:
    UserError: the model was not trained to classify, or a setting is wrong.
  """

  trained: LoadedModel
  batch_size: int = 16

  def __post_init__(self):
    require_positive(batch_size=self.batch_size)

  @property
  def ability(self) -> Ability:
    """How the model reads a text."""
    return ability_for(self.trained, "classify")

  def prompt(self, text: str, mode: str | None = None) -> Prompt:
    """Returns a text as the model reads it, without the end that training would have cut.

    Raises:
      UserError: the text is empty, or a mode token is given, which labels do not have.
    """
    if mode is not None:
      raise UserError(f"The mode token {mode!r} is for models that write; a label has none.")
    most = self.trained.row_lengths.get("inputs")
    prompt = prompts.classified(self.trained, self.ability, text, most)
    if prompt.cut:
      warnings.warn(
        f"a text has {prompt.cut:,} tokens more than the rows of {most} of the training, and is "
        "cut at the end.",
        stacklevel=2,
      )
    return prompt

  def run(self, rows: Sequence[Prompt], seed: int = 0, first_row: int = 0) -> list[Classified]:
    """Returns the labels of texts; nothing is drawn."""
    trained, names = self.trained, labels(self.trained)
    with trained.partitioner.context():
      found = class_probabilities(
        trained.model, trained.params, [row.encoder for row in rows], batch_size=self.batch_size
      )
    results = []
    for row in found:
      order = row.argsort(kind="stable")[::-1]
      shares = {names[i]: float(row[i]) for i in order}
      best = next(iter(shares))
      results.append(Classified(best, shares[best], shares))
    return results


def labels(trained: LoadedModel) -> tuple[str, ...]:
  """Returns the names of a model's labels, in the order of the classes of its head."""
  ability_for(trained, "classify")
  found = (x["labels"] for x in trained.objectives if x.get("objective") == "classification")
  return tuple(next(found))


def classify(
  trained: LoadedModel, texts: str | Sequence[str], *, batch_size: int = 16
) -> list[Classified]:
  """Returns the labels of texts; see TrainedModel.classify."""
  task = Classifying(trained, batch_size)
  return task.run(prompts.of_texts(texts, task.prompt))
