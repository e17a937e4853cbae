"""TrainedModel.fill: fills the holes of texts, by the method that the model was trained for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from t5x_style.errors import require_positive
from t5x_style.inference.choice import Choice
from t5x_style.trained import decoder_filling, encoder_filling, prompts
from t5x_style.trained.abilities import Ability, ability_for
from t5x_style.trained.filled import Filled
from t5x_style.trained.loaded_model import LoadedModel
from t5x_style.trained.prompts import Prompt
from t5x_style.trained.writing import Writing


@dataclasses.dataclass(frozen=True)
class Filling:
  """Fills the holes of texts; the settings are those of `fill`.

  Raises:
    UserError: the model does not fill holes, or a setting is not one of its method.
  """

  trained: LoadedModel
  candidates: int = 5
  choice: Choice | None = None
  mode: str | None = None
  max_new_tokens: int = 64
  steps: int | None = None
  batch_size: int = 16

  def __post_init__(self):
    ability = self.ability
    require_positive(candidates=self.candidates)
    ability.check(self.mode, self.choice, self.steps, self.max_new_tokens, self.batch_size)

  @property
  def ability(self) -> Ability:
    """How the model fills holes."""
    return ability_for(self.trained, "fill")

  def prompt(self, text: str, mode: str | None = None) -> Prompt:
    """Returns a text as the model reads it; `mode` is another one than that of all texts.

    Raises:
      UserError: the text has no hole or is too long, or the mode is unknown.
    """
    return prompts.filled(self.trained, self.ability, text, mode or self.mode)

  def run(self, rows: Sequence[Prompt], seed: int = 0, first_row: int = 0) -> list[Filled]:
    """Fills texts.

    Args:
      rows: of `prompt`.
      seed: of the draws, if there is a temperature.
      first_row: the number of the first text, from which its draws follow.
    """
    if not rows:
      return []
    trained, method = self.trained, self.ability.method
    if method == "masks":
      return encoder_filling.fill_masks(trained, rows, self.candidates, self.batch_size)
    if method == "unmasking":
      written = encoder_filling.unmask(
        trained,
        rows,
        steps=self.steps,
        temperature=self.choice.temperature if self.choice else 0.0,
        batch_size=self.batch_size,
        seed=seed,
        first_row=first_row,
      )
      return encoder_filling.fill_by_unmasking(trained, rows, written)
    writing = Writing(
      # Without a length penalty the candidates are those of the highest probabilities.
      self.choice or Choice(beams=self.candidates, length_penalty=0.0),
      candidates=self.candidates,
      both_ways=self.ability.both_ways,
      batch_size=self.batch_size,
      seed=seed,
      first_row=first_row,
    )
    by_method = {
      "spans": decoder_filling.fill_spans,
      "infilling": decoder_filling.fill_by_rewriting,
      "middle": decoder_filling.fill_middle,
    }
    return by_method[method](trained, rows, writing, self.max_new_tokens)


def fill(
  trained: LoadedModel, texts: str | Sequence[str], *, seed: int = 0, **settings
) -> list[Filled]:
  """Fills the holes of texts; see TrainedModel.fill."""
  filling = Filling(trained, **settings)
  return filling.run(prompts.of_texts(texts, filling.prompt), seed)
