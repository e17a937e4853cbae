"""Ranks what may be in the hole of a text, by the method that a model was trained for.

One question fits models of every objective, because each gives a probability of what is in the hole
given the text on both sides of it. All of them are of a normalised distribution, which for a model
of the language itself would rank the choices in the same order:

  trained for                 score of a choice
  masked LM, diffusion        log p(hole | rest), its tokens written from left to right: of each, it
                              and the later ones are masked (Kauf and Ivanova 2023, section 3)
  span corruption, UL2        log p(hole and its end | rest), which the decoder writes
  BART's text infilling       log p(hole and what follows | rest), which the decoder writes
  fill in the middle          log p(hole and its end | prefix, suffix)
  causal LM, prefix LM        log p(hole and what follows | what precedes), which is
                              log p(text) but for a part that all choices share
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from t5x_style.codecs.text_codec import TextCodec
from t5x_style.errors import UserError
from t5x_style.inference.row_batches import longest_row
from t5x_style.inference.scoring import Row, score_rows
from t5x_style.trained import scoring_rows
from t5x_style.trained.abilities import Ability, abilities
from t5x_style.trained.framing import Template, decoder_prompt
from t5x_style.trained.holes import encode_inside
from t5x_style.trained.loaded_model import LoadedModel
from t5x_style.trained.scoring_frames import (
  context_of_decoder,
  decoder_start,
  encoder_frame,
  hidden_by,
  mode_ids,
  reads_context_both_ways,
)

Ids = Sequence[int]


class Question(NamedTuple):
  """A text with a hole, and what may be in it.

  Attributes:
    before, after: the text around the hole, with its spaces.
    choices: texts, with the spaces that belong to them.
  """

  before: str
  after: str
  choices: Sequence[str]


class Split(NamedTuple):
  """The ids of a question, as they are where a choice is in its place in the text.

  Attributes:
    before, after: the ids that all choices have around them.
    choices: the ids of each choice; a space that shares a token with a word belongs to it.
  """

  before: list[int]
  after: list[int]
  choices: list[list[int]]


@dataclasses.dataclass(frozen=True)
class Ranked:
  """What a model says about the choices of a question.

  Attributes:
    scores: float64 [C], natural logarithms of probabilities.
    greedy: bool [C], whether a choice is what the model writes if it takes the likeliest token each
      time, and is told how many tokens the hole has. Where only the text before the hole is read,
      as by a causal LM, it continues that.
  """

  scores: np.ndarray
  greedy: np.ndarray


def matched(scores: np.ndarray) -> np.ndarray:
  """Returns which of N choices each of N holes gains most by, int [N]; -1 where two are equal.

  The gain of a choice in a hole is its score there less its mean score in all N holes. What a model
  thinks of a choice whatever is around it, such as that it is frequent, cancels out (as in PMI,
  Holtzman et al. 2021, section 3), so a model that ignores the text around the holes has to guess.

  Args:
    scores: float [N, N], of each hole and of each choice in it.
  """
  gains = scores - scores.mean(axis=0, keepdims=True)
  best = gains.max(axis=1, keepdims=True)
  return np.where((gains == best).sum(axis=1) == 1, gains.argmax(axis=1), -1)


def how(model: LoadedModel) -> str:
  """Says in words how `rank` scores the choices of a model.

  Raises:
    UserError: the model fills no holes and continues no texts.
  """
  ability = _ability(model)
  if ability.task == "fill":
    return _FILLING[ability.method]
  if model.config.architecture == "encoder_decoder":
    return "the encoder reads the text before the hole; the decoder writes the hole and the rest"
  if ability.both_ways:
    return "the text before the hole is read in both directions; the hole and the rest are written"
  return "the whole text is written from left to right, so the text after the hole counts as well"


_FILLING = {
  "masks": "the hole is masked and written from left to right, given the text on both sides",
  "unmasking": "the hole is masked and written from left to right, given the text on both sides",
  "spans": "a sentinel stands for the hole, and the decoder writes what it hides, up to its end",
  "infilling": "a mask stands for the hole, and the decoder writes the hole and what follows it",
  "middle": "the decoder reads what precedes and what follows the hole, then writes it up to EOS",
}

# What learns to answer a text, not to continue it: text_to_text and tasks of the user.
_ANSWERS = {"text_to_text", None}


def split(codec: TextCodec, question: Question) -> Split:
  """Returns the ids of a question; each choice is tokenised in its place in the text.

  A token that belongs to a choice and to the text around it counts to the choice, as does what the
  choice changes in the tokens around it.

  Raises:
    UserError: there are no choices, or one has no token.
  """
  wholes = [codec.encode(question.before + x + question.after) for x in question.choices]
  if not wholes:
    raise UserError("A question has no choices.")
  alone = codec.encode(question.before) if question.before else []
  following = encode_inside(codec, question.after)
  first = _shared([alone, *wholes])
  last = _shared([following[::-1], *(row[first:][::-1] for row in wholes)])
  choices = [row[first : len(row) - last] for row in wholes]
  for text, ids in zip(question.choices, choices, strict=True):
    if not ids:
      raise UserError(f"The choice {text!r} has no token of its own.")
  return Split(wholes[0][:first], wholes[0][len(wholes[0]) - last :], choices)


def rank(
  model: LoadedModel, questions: Iterable[Question], *, batch_tokens: int = 8192
) -> list[Ranked]:
  """Returns the scores of the choices of questions.

  Scores may be compared between the choices of a question; those of one length in tokens are fair,
  because every token more makes a score lower.

  Args:
    batch_tokens: about how many tokens, padding included, are computed at once.

  Raises:
    UserError: the model fills no holes and continues no texts, a choice has no token, or a text is
      longer than the model's learned positions.
  """
  rows_of = _maker(model, _ability(model))
  plans = [
    [rows_of(ids.before, choice, ids.after) for choice in ids.choices]
    for ids in (split(model.codec, question) for question in questions)
  ]
  _check_lengths(model, plans)
  rows = [row.row for question in plans for choice in question for row in choice]
  with model.partitioner.context():
    found = iter(list(score_rows(model.model, model.params, rows, batch_tokens=batch_tokens)))
  results = []
  for question in plans:
    scores, greedy = [], []
    for choice in question:
      each = [(row, next(found)) for row in choice]
      scores.append(sum(float(x.log_probabilities.sum(dtype=np.float64)) for _, x in each))
      greedy.append(all(bool(x.likeliest[list(row.inside)].all()) for row, x in each))
    results.append(Ranked(np.array(scores), np.array(greedy)))
  return results


class _ChoiceRow(NamedTuple):
  """A row to score, and the places among its targets of tokens that are in the hole."""

  row: Row
  inside: Ids


def _ability(model: LoadedModel) -> Ability:
  """Returns how the model fills a hole, or else how it continues a text."""
  known = abilities(model)
  names = {component.get("objective") for component in model.objectives}
  answers = bool(names) and model.config.architecture == "encoder_decoder" and names <= _ANSWERS
  for task in ("fill", "continue"):
    if task in known and not known[task].ended and not answers:
      return known[task]
  raise UserError(f"{model.path} was not trained to fill holes or to continue texts.")


def _maker(model: LoadedModel, ability: Ability) -> Callable[[Ids, Ids, Ids], list[_ChoiceRow]]:
  """Returns the function that makes the rows of a choice, from (before, choice, after)."""
  if ability.method in ("masks", "unmasking"):
    return _masked(model, ability)
  if ability.task == "fill":
    return {"spans": _span, "infilling": _rewritten, "middle": _middle}[ability.method](
      model, ability
    )
  return _suffix(model)


def _masked(model, ability):
  frame = encoder_frame(model, "masked_lm") if ability.framed else Template()
  mask_id = model.codec.special_id("[MASK]")

  def rows(before, choice, after):
    around = Template((*frame.before, *before), (*after, *frame.after))
    # All tokens of the hole count as one word, so that none is guessed from later ones.
    found = scoring_rows.masked_one_by_one(around, choice, mask_id, [0] * len(choice))
    return [_ChoiceRow(weighted.row, [0]) for weighted in found]

  return rows


def _span(model, ability):
  hidden, names = hidden_by(model)
  eos = model.codec.eos_id

  def rows(before, choice, after):
    read = [*before, hidden, *after]
    inside = range(len(choice))
    if ability.both_ways:  # One row: the text with its sentinel, EOS, then what it hides.
      start = [model.codec.start_id, *mode_ids(model, "span_corruption"), *read, eos]
      return [_written([*start, hidden], [*choice, eos], inside, prefix=len(start))]
    inputs = encoder_frame(model, "span_corruption").around(read)
    return [_written([*decoder_start(model), *names], [*choice, eos], inside, inputs)]

  return rows


def _rewritten(model, ability):
  del ability

  def rows(before, choice, after):
    inputs = encoder_frame(model, "text_infilling").around([*before, hidden_by(model)[0], *after])
    start = [*decoder_start(model), *before]
    ids = [*choice, *after, model.codec.eos_id]
    return [_written(start, ids, range(len(choice)), inputs)]

  return rows


def _middle(model, ability):
  del ability
  pre, suf, mid = map(model.codec.special_id, ("[PRE]", "[SUF]", "[MID]"))

  def rows(before, choice, after):
    start = [model.codec.start_id, pre, *before, suf, *after, mid]
    return [_written(start, [*choice, model.codec.eos_id], range(len(choice)))]

  return rows


def _suffix(model):
  def rows(before, choice, after):
    inside = range(len(choice))
    if model.config.architecture == "encoder_decoder":
      inputs = encoder_frame(model, "prefix_lm").around(before)
      return [_written(decoder_start(model), [*choice, *after], inside, inputs)]
    read = context_of_decoder(model, before)
    start = decoder_prompt(model.codec, model.template, read)
    prefix = len(start) if reads_context_both_ways(model) else 0
    return [_written(start, [*choice, *after], inside, prefix=prefix)]

  return rows


def _written(start: Ids, ids: Ids, inside: Ids, inputs: Ids = (), prefix: int = 0) -> _ChoiceRow:
  (found,) = scoring_rows.written(start, ids, encoder_inputs=inputs, prefix=prefix)
  return _ChoiceRow(found.row, inside)


def _shared(rows: Sequence[Ids]) -> int:
  """Returns how many ids at their beginning all rows have in common."""
  columns: Iterator[tuple[int, ...]] = zip(*rows, strict=False)
  return len(list(itertools.takewhile(lambda column: len(set(column)) == 1, columns)))


def _check_lengths(model: LoadedModel, plans: Sequence[Sequence[Sequence[_ChoiceRow]]]) -> None:
  limit = longest_row(model.model)
  for number, question in enumerate(plans):
    rows = [each.row for choice in question for each in choice]
    longest = max(max(len(row.decoder_inputs), len(row.encoder_inputs)) for row in rows)
    if limit is not None and longest > limit:
      raise UserError(
        f"questions[{number}] needs a row of {longest} tokens, and the model has learned positions "
        f"for {limit}: shorten its text."
      )
