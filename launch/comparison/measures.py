"""What held-out passages show of a trained model, by methods that fit every objective.

Each function returns one of t5x_style.comparison.measures; where a model was not trained for what
is measured, the value is None and the reason says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t5x_style.comparison.measures import Measured, error_of_share
from t5x_style.errors import UserError
from t5x_style.inference.choice import Choice
from t5x_style.trained import abilities, multiple_choice
from t5x_style.trained.model import TrainedModel
from t5x_style.trained.multiple_choice import Question, Ranked
from t5x_style.trained.scores import METHODS

from ..evaluation import minimal_pairs
from .passages import GROUP, Passage

# Objectives that teach how a text continues; the others hide parts of a text, or answer it.
CONTINUE = frozenset(("causal_lm", "fill_in_middle", "prefix_lm", "masked_diffusion"))
_SAMPLES = 16  # random masks of each passage, for the bound of masked diffusion
_NEW_TOKENS = 32  # to write at most, in what is shown


def of_passages(model: TrainedModel, passages: Sequence[Passage]) -> dict[str, Measured]:
  """Returns completion, choice_of_four, infilling and pairs of a model."""
  measured = {"completion": or_reason(lambda: completion(model, passages))}
  try:
    ranked = multiple_choice.rank(model, [passage.question for passage in passages])
  except UserError as error:
    measured |= dict.fromkeys(("choice_of_four", "infilling"), Measured(None, str(error)))
  else:
    how = multiple_choice.how(model)
    measured["choice_of_four"] = choice_of_four(ranked, how)
    greedy = [bool(x.greedy[p.right]) for x, p in zip(ranked, passages, strict=True)]
    measured["infilling"] = _share(
      greedy,
      "share of the holes of one to three words that the likeliest token each time fills exactly; "
      f"all models are told how many tokens a hole has; {how}",
    )
  pairs = [(passage.good, passage.bad) for passage in passages]
  words = "pairs of a part of a passage, and the same with two neighbouring words swapped"
  return {**measured, "pairs": or_reason(lambda: of_pairs(model, pairs, words))}


def or_reason(measure: Callable[[], Measured]) -> Measured:
  """Returns what a function measures; no value and the reason if it raises a UserError."""
  try:
    return measure()
  except UserError as error:
    return Measured(None, reason=str(error))


def completion(model: TrainedModel, passages: Sequence[Passage]) -> Measured:
  """Returns the bits per byte of the second halves of passages, given the first ones.

  All halves together are one text: sum of nats / ln 2 / sum of UTF-8 bytes.
  """
  names = {component.get("objective") for component in model.objectives}
  writes = model.config.architecture == "decoder_only" and not names
  if not writes and not names & CONTINUE:
    learnt = ", ".join(sorted(map(str, names))) or model.config.architecture
    return Measured(
      None, f"{learnt} does not teach how a text continues, so it has no probability of that"
    )
  firsts = [passage.text[: passage.half] for passage in passages]
  rests = [passage.text[passage.half :] for passage in passages]
  scores = model.score(firsts, rests, samples=_SAMPLES)
  if any(score.bits_per_byte is None for score in scores):
    return Measured(None, "its tokens do not keep the text, so it has no bits per byte")
  bits = np.array([-score.total / math.log(2) for score in scores])
  sizes = np.array([len(rest.encode()) for rest in rests])
  deviations = (bits - bits.sum() / sizes.sum() * sizes) / sizes.sum()
  method = scores[0].method
  how = (
    f"a bound, from {_SAMPLES} random masks of each"
    if method.name == "diffusion_bound"
    else "given the first half, which is read in both directions"
    if method.name != "causal"
    else "given the first half, from left to right"
  )
  return Measured(
    float(bits.sum() / sizes.sum()),
    method=f"bits per byte of the second half of each passage, {how}",
    standard_error=_error(deviations),  # By the linear approximation of a ratio of sums.
    count=len(passages),
    deviations=tuple(deviations.tolist()),
  )


def choice_of_four(ranked: Sequence[Ranked], how: str) -> Measured:
  """Returns how often a model tells which of four contents belongs into which of four holes.

  Args:
    ranked: of passages, in groups of four.
    how: how they were scored.
  """
  right = np.concatenate(
    [
      multiple_choice.matched(np.stack([x.scores for x in group])) == np.arange(GROUP)
      for group in _groups(ranked)
    ]
  )
  shares = right.reshape(-1, GROUP).mean(axis=1)  # The answers of a group depend on each other.
  deviations = (shares - shares.mean()) / len(shares)
  return Measured(
    float(right.mean()),
    method="share of the holes of one to three words for which the model prefers their own "
    "content among four that are as long in tokens; how much it prefers a content is the "
    "log-probability of it in this hole, less the mean of its log-probabilities in the four holes "
    f"that the contents come from, so that frequent words have no advantage; {how}",
    standard_error=_error(deviations),
    count=len(right),
    deviations=tuple(deviations.tolist()),
  )


def _groups(ranked: Sequence[Ranked]) -> list[Sequence[Ranked]]:
  return [ranked[i : i + GROUP] for i in range(0, len(ranked), GROUP)]


def of_pairs(model: TrainedModel, pairs: Sequence[tuple[str, str]], words: str) -> Measured:
  """Returns how often the first text of a pair has the higher score; ties are not correct.

  Args:
    words: what the pairs are, for the method.
  """
  names = {component.get("objective") for component in model.objectives}
  texts = list(dict.fromkeys(text for pair in pairs for text in pair))
  if "masked_diffusion" in names:  # Random masks would hide the difference of a pair in noise.
    ranked = multiple_choice.rank(model, [Question("", "", [text]) for text in texts])
    totals = {text: float(x.scores[0]) for text, x in zip(texts, ranked, strict=True)}
    how = "its log-likelihood, unmasked from left to right"
  else:
    scores = model.score(texts)
    totals = {text: score.total for text, score in zip(texts, scores, strict=True)}
    how = METHODS[scores[0].method.name].meaning
  right = [totals[good] > totals[bad] for good, bad in pairs]
  return _share(right, f"share of {words}, of which the first has the higher score: {how}")


def of_pairs_file(model: TrainedModel, files: Iterable[Path]) -> Measured:
  """Returns the accuracy of a model on minimal pairs in BLiMP's format."""
  lines = list(minimal_pairs.read(list(files)))
  pairs = [(line.good, line.bad) for line in lines if isinstance(line, minimal_pairs.Pair)]
  if not pairs:
    return Measured(None, "the files hold no pair")
  return of_pairs(model, pairs, "pairs of sentences of PAIRS_FILE")


def examples(model: TrainedModel, passages: Sequence[Passage], most: int) -> list[dict[str, Any]]:
  """Returns what a model writes into and after the first passages, taking the likeliest tokens.

  Args:
    most: how many passages.
  """
  shown = passages[:most]
  fillings, continuations = _fillings(model, shown), _continuations(model, shown)
  return [
    {
      "passage": number,
      "prompt": passage.text[: passage.half],
      "truth": passage.text[passage.half :],
      "continuation": continuations[number],
      "hole": {
        "before": passage.question.before,
        "truth": passage.choices[passage.right],
        "after": passage.question.after,
        "filling": fillings[number],
      },
    }
    for number, passage in enumerate(shown)
  ]


def _fillings(model: TrainedModel, passages: Sequence[Passage]) -> Sequence[str | None]:
  """Returns what a model writes into holes; a causal LM continues the text before them."""
  known = abilities.abilities(model)
  counts = [_tokens_of_hole(model, passage) for passage in passages]
  if "fill" not in known:
    befores = [passage.question.before for passage in passages]
    return _continued(model, befores, counts)
  one_each = known["fill"].method in ("masks", "unmasking")
  masks = ["[MASK]" * (count if one_each else 1) for count in counts]
  texts = [
    f"{x.question.before}{mask}{x.question.after}" for x, mask in zip(passages, masks, strict=True)
  ]
  filled = model.fill(texts, candidates=1, choice=Choice(), max_new_tokens=_NEW_TOKENS)
  return [
    "".join(hole[0].text for hole in each.holes if hole) if any(each.holes) else None
    for each in filled
  ]


def _tokens_of_hole(model: TrainedModel, passage: Passage) -> int:
  return len(multiple_choice.split(model.codec, passage.question).choices[passage.right])


def _continuations(model: TrainedModel, passages: Sequence[Passage]) -> Sequence[str | None]:
  rests = [passage.text[passage.half :] for passage in passages]
  counts = [min(_NEW_TOKENS, len(model.codec.encode(rest))) for rest in rests]
  return _continued(model, [passage.text[: passage.half] for passage in passages], counts)


def _continued(model, texts, counts) -> Sequence[str | None]:
  """Returns the first tokens that a model writes after each text; None if it cannot."""
  if "continue" not in abilities.abilities(model):
    return [None] * len(texts)
  written = model.generate(texts, max_new_tokens=max(counts))
  marks = {*model.codec.marks, model.codec.eos_id}
  return [
    model.codec.decode_visible(i for i in each.tokens[:count].tolist() if i not in marks)
    for each, count in zip(written, counts, strict=True)
  ]


def _share(right: Sequence[bool], method: str) -> Measured:
  count, share = len(right), sum(right) / len(right)
  error = error_of_share(sum(right), count)
  deviations = tuple((x - share) / count for x in right)
  return Measured(share, method=method, standard_error=error, count=count, deviations=deviations)


def _error(deviations: np.ndarray) -> float | None:
  """Returns the standard error of a value, from the deviations of its items; None of one item."""
  count = len(deviations)
  if count < 2:
    return None
  return float(math.sqrt(count / (count - 1) * np.square(deviations).sum()))
