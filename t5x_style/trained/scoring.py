"""TrainedModel.score: log-probabilities of the tokens of texts, by a method that fits the model."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from t5x_style.errors import UserError
from t5x_style.inference.scoring import Row, TokenScores, score_rows
from t5x_style.trained import scoring_rows
from t5x_style.trained.framing import Template, decoder_prompt
from t5x_style.trained.loaded_model import LoadedModel
from t5x_style.trained.scores import Method, Score
from t5x_style.trained.scoring_frames import (
  context_of_decoder,
  decoder_start,
  encoder_frame,
  hidden_by,
  reads_context_both_ways,
)
from t5x_style.trained.scoring_methods import choose_method
from t5x_style.trained.scoring_rows import WeightedRow
from t5x_style.trained.word_starts import word_numbers

_TEXTS_AT_ONCE = 512
_ENDED = ("causal", "prefix_lm", "encoder_decoder", "enc_dec_prefix", "diffusion_bound")


@dataclasses.dataclass(frozen=True)
class Options:
  """How texts are scored; see TrainedModel.score."""

  method: str | None = None
  with_eos: bool = False
  samples: int = 128
  seed: int = 0
  batch_tokens: int = 8192


def score(
  model: LoadedModel,
  texts: str | Sequence[str],
  targets: str | Sequence[str] | None = None,
  options: Options = Options(),
) -> Iterator[Score]:
  """Checks all texts, then returns an iterator over their scores, in order.

  Raises:
    UserError: as TrainedModel.score says.
  """
  texts = [texts] if isinstance(texts, str) else texts
  targets = [targets] if isinstance(targets, str) else targets
  _check_lists(texts, targets)
  method = choose_method(model, options.method, targets is not None)
  if options.with_eos and method.name not in _ENDED:
    raise UserError(f"with_eos=True: {method.name} has no end of the text to score; leave it out.")
  if options.samples < 1 or options.batch_tokens < 1:
    raise UserError(
      f"samples={options.samples} and batch_tokens={options.batch_tokens} must be at least 1."
    )
  planner = _Planner(model, method, options)
  given: Sequence[str | None] = [None] * len(texts) if targets is None else targets
  plans = [planner.plan(i, *pair) for i, pair in enumerate(zip(texts, given, strict=True))]
  return _scores(model, method, plans, options.batch_tokens)


def _check_lists(texts, targets):
  """Raises UserError unless all are texts, and there is a target for each."""
  for name, values in (("texts", texts), ("targets", targets)):
    wrong = [i for i, value in enumerate(values or ()) if not isinstance(value, str)]
    if wrong:
      kind = type(values[wrong[0]]).__name__
      raise UserError(f"{name}[{wrong[0]}] is not a text but of the type {kind}.")
  if targets is not None and len(texts) != len(targets):
    raise UserError(f"There are {len(texts)} texts and {len(targets)} targets; give one for each.")


class _Plan(NamedTuple):
  """How one text is scored.

  Attributes:
    text: what is scored.
    ids: its tokens.
    rows: makes the rows to score.
    longest: the tokens of the longest of them.
    samples: how many of the rows are random; 0 where none is.
  """

  text: str
  ids: list[int]
  rows: Callable[[], Iterator[WeightedRow]]
  longest: int
  samples: int = 0


class _Given(NamedTuple):
  """The number of a text, the ids that are only read, and those to score."""

  number: int
  context: list[int]
  ids: list[int]


class _Planner:
  """Makes the plan of each text by one method."""

  def __init__(self, model: LoadedModel, method: Method, options: Options):
    self._model, self._codec, self._options = model, model.codec, options
    self._method = method
    self._make = getattr(self, f"_{method.name}")

  def plan(self, index: int, text: str, target: str | None) -> _Plan:
    """Returns the plan of a text, or of a target after it; raises UserError as score."""
    context, ids = self._ids(index, text, target)
    if self._options.with_eos:
      ids = [*ids, self._codec.eos_id]
    plan = self._make(_Given(index, context, ids))._replace(text=text if target is None else target)
    config = self._model.config
    if config.positions == "learned" and plan.longest > config.max_length:
      raise UserError(
        f"texts[{index}] needs a row of {plan.longest} tokens, and the model has learned positions "
        f"for {config.max_length}: shorten it. It begins with {text[:40]!r}."
      )
    return plan

  def _ids(self, index, text, target):
    """Returns the ids of the context and those to score."""
    if target is None:
      ids = self._codec.encode(text)
      if not ids:
        raise UserError(f"texts[{index}] = {text!r} has no token, so there is nothing to score.")
      return [], ids
    context = self._codec.encode(text)
    if self._method.name == "encoder_decoder":
      ids = self._codec.encode(target)
    else:
      # A token that belongs to both counts to the target: its probability depends on the target.
      whole = self._codec.encode(text + target)
      pairs = zip(context, whole, strict=False)
      common = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
      context, ids = whole[:common], whole[common:]
    if not ids:
      raise UserError(f"targets[{index}] = {target!r} has no token, so there is nothing to score.")
    return context, ids

  def _written(self, start, ids, encoder_inputs=(), prefix=0):
    rows = lambda: scoring_rows.written(start, ids, encoder_inputs=encoder_inputs, prefix=prefix)
    longest = max(len(start) + len(ids) - 1, len(encoder_inputs))
    return _Plan("", ids, rows, longest)

  def _causal(self, given):
    return self._written(
      decoder_prompt(self._codec, self._model.template, given.context), given.ids
    )

  def _prefix_lm(self, given):
    read = context_of_decoder(self._model, given.context)
    start = decoder_prompt(self._codec, self._model.template, read)
    prefix = len(start) if reads_context_both_ways(self._model) else 0
    return self._written(start, given.ids, prefix=prefix)

  def _encoder_decoder(self, given):
    inputs = encoder_frame(self._model, "prefix_lm").around(given.context)
    if not inputs:
      raise UserError(f"texts[{given.number}] has no token, so the encoder has nothing to read.")
    return self._written(decoder_start(self._model), given.ids, inputs)

  def _enc_dec_prefix(self, given):
    if any(x.get("objective") == "prefix_lm" for x in self._model.objectives):
      return self._written(
        decoder_start(self._model), given.ids, encoder_frame(self._model, "prefix_lm").around([])
      )
    hidden, names = hidden_by(self._model)
    inputs = encoder_frame(self._model, "span_corruption").around([hidden])
    return self._written([*decoder_start(self._model), *names], given.ids, inputs)

  def _enc_dec_mask(self, given):
    hidden, names = hidden_by(self._model)
    start = [*decoder_start(self._model), *names]
    frame = encoder_frame(self._model, "span_corruption")
    rows = lambda: scoring_rows.hidden_one_by_one(
      frame, given.ids, hidden, start, writes_all=not names
    )
    longest = max(len(frame.around(given.ids)), len(start) + (0 if names else len(given.ids) - 1))
    return _Plan("", given.ids, rows, longest)

  def _pseudo_log_likelihood(self, given, words=None):
    frame, mask_id = encoder_frame(self._model, "masked_lm"), self._codec.special_id("[MASK]")
    rows = lambda: scoring_rows.masked_one_by_one(frame, given.ids, mask_id, words)
    return _Plan("", given.ids, rows, len(frame.around(given.ids)))

  def _pseudo_log_likelihood_in_words(self, given):
    return self._pseudo_log_likelihood(given, word_numbers(self._codec, given.ids))

  def _diffusion_bound(self, given):
    frame, samples = Template(before=tuple(given.context)), self._options.samples
    draw = np.random.default_rng((self._options.seed, given.number))
    rows = lambda: scoring_rows.diffusion_bound(
      frame, given.ids, self._codec.special_id("[MASK]"), samples, draw
    )
    exact = scoring_rows.is_enumerated(len(given.ids), samples)
    return _Plan("", given.ids, rows, len(frame.around(given.ids)), 0 if exact else samples)


def _scores(
  model: LoadedModel, method: Method, plans: Sequence[_Plan], batch_tokens: int
) -> Iterator[Score]:
  for first in range(0, len(plans), _TEXTS_AT_ONCE):
    group = plans[first : first + _TEXTS_AT_ONCE]
    with model.partitioner.context():
      sums = _sums(model, group, batch_tokens)
    for plan, (log_probabilities, totals) in zip(group, sums, strict=True):
      spread = np.std(totals, ddof=1) if plan.samples > 1 else 0.0
      yield Score(
        method=method,
        text=plan.text,
        tokens=model.codec.pieces(plan.ids),
        ids=np.array(plan.ids, np.int32),
        log_probabilities=log_probabilities.astype(np.float32),
        standard_error=float(spread * plan.samples**0.5),
        keeps_text=model.codec.keeps_text and model.codec.unknown_id not in plan.ids,
      )


def _sums(
  model: LoadedModel, plans: Sequence[_Plan], batch_tokens: int
) -> list[tuple[np.ndarray, list[float]]]:
  """Returns for each plan the sum of each token's weighted scores [n], and that of each row's."""
  sums: list[tuple[np.ndarray, list[float]]] = [(np.zeros(len(plan.ids)), []) for plan in plans]
  waiting: deque[tuple[int, WeightedRow]] = deque()

  def rows() -> Iterator[Row]:
    for index, plan in enumerate(plans):
      for weighted in plan.rows():
        waiting.append((index, weighted))
        yield weighted.row

  found: Iterator[TokenScores] = score_rows(
    model.model, model.params, rows(), batch_tokens=batch_tokens
  )
  for scores in found:
    index, weighted = waiting.popleft()
    values = weighted.weight * scores.log_probabilities.astype(np.float64)
    log_probabilities, totals = sums[index]
    log_probabilities[list(weighted.tokens)] += values
    totals.append(float(values.sum()))
  return sums
