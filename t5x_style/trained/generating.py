"""TrainedModel.generate: continues texts, by the method that the model was trained for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from t5x_style.inference.choice import Choice
from t5x_style.inference.generation import Continuation
from t5x_style.inference.unmasking import Unmasked
from t5x_style.trained import encoder_filling, prompts
from t5x_style.trained.abilities import Ability, ability_for
from t5x_style.trained.loaded_model import LoadedModel
from t5x_style.trained.prompts import Prompt
from t5x_style.trained.writing import Writing


@dataclasses.dataclass(frozen=True)
class Generated:
  """What a model wrote after a text, or as its answer to it.

  Attributes:
    text: without the text that was continued.
    tokens: int32 [n], with EOS if it was written.
    log_probabilities: float32 [n], natural, of each token, at temperature 1.
    finished: whether the model ended the text itself, with EOS.
    others: other candidates of a beam search, the best first.
  """

  text: str
  tokens: np.ndarray
  log_probabilities: np.ndarray
  finished: bool
  others: tuple[Generated, ...] = ()

  @property
  def log_probability(self) -> float:
    """The natural logarithm of the probability of all tokens."""
    return float(self.log_probabilities.sum())


@dataclasses.dataclass(frozen=True)
class Continuing:
  """Continues texts; the settings are those of `generate`.

  Raises:
    UserError: the model does not continue texts, or a setting is not one of its method.
  """

  trained: LoadedModel
  max_new_tokens: int = 64
  choice: Choice | None = None
  mode: str | None = None
  steps: int | None = None
  batch_size: int = 16

  def __post_init__(self):
    self.ability.check(self.mode, self.choice, self.steps, self.max_new_tokens, self.batch_size)

  @property
  def ability(self) -> Ability:
    """How the model continues texts."""
    return ability_for(self.trained, "continue")

  def prompt(self, text: str, mode: str | None = None) -> Prompt:
    """Returns a text as the model reads it; `mode` is another one than that of all texts.

    Raises:
      UserError: the text is too long, or the mode is unknown.
    """
    return prompts.continued(
      self.trained, self.ability, text, mode or self.mode, self.max_new_tokens
    )

  def run(self, rows: Sequence[Prompt], seed: int = 0, first_row: int = 0) -> list[Generated]:
    """Continues texts.

    Args:
      rows: of `prompt`.
      seed: of the draws, if there is a temperature.
      first_row: the number of the first text, from which its draws follow.
    """
    if not rows:
      return []
    trained, choice = self.trained, self.choice or Choice()
    if self.ability.method == "unmasking":
      written = encoder_filling.unmask(
        trained,
        rows,
        steps=self.steps,
        temperature=choice.temperature,
        batch_size=self.batch_size,
        seed=seed,
        first_row=first_row,
      )
      return [_unmasked(trained, row) for row in written]
    writing = Writing(
      choice,
      candidates=choice.beams,
      both_ways=self.ability.both_ways,
      batch_size=self.batch_size,
      seed=seed,
      first_row=first_row,
    )
    found = writing.after(
      trained,
      [row.decoder for row in rows],
      [row.encoder for row in rows] if rows[0].encoder else (),
      [self.max_new_tokens] * len(rows),
    )
    results = []
    for row, each in zip(rows, found, strict=True):
      best, *others = (_generated(trained, row, one) for one in each)
      results.append(dataclasses.replace(best, others=tuple(others)))
    return results


def generate(
  trained: LoadedModel, texts: str | Sequence[str], *, seed: int = 0, **settings
) -> list[Generated]:
  """Continues texts; see TrainedModel.generate."""
  continuing = Continuing(trained, **settings)
  return continuing.run(prompts.of_texts(texts, continuing.prompt), seed)


def _generated(trained: LoadedModel, row: Prompt, one: Continuation) -> Generated:
  text = _text_after(trained, row, one.tokens)
  return Generated(text, one.tokens, one.log_probabilities, one.finished)


def _unmasked(trained: LoadedModel, row: Unmasked) -> Generated:
  """Returns what was written instead of the masks, up to the first EOS."""
  eos = trained.codec.eos_id
  tokens = row.tokens[row.positions]
  ends = np.flatnonzero(tokens == eos)
  count = int(ends[0]) + 1 if len(ends) else len(tokens)
  text = _shown(trained, tokens[:count])
  return Generated(text, tokens[:count], row.log_probabilities[:count], bool(len(ends)))


def _text_after(trained: LoadedModel, row: Prompt, tokens: np.ndarray) -> str:
  """Returns the text of tokens; a continuation keeps the space between it and what it continues."""
  if row.encoder:
    return trained.codec.decode(tokens)
  return _shown(trained, tokens)


def _shown(trained: LoadedModel, tokens: np.ndarray) -> str:
  marks = trained.codec.marks
  return trained.codec.decode_visible(i for i in tokens.tolist() if i not in marks)
