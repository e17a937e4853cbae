"""What training has to know of the objectives of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from t5x_style.data.objectives.base import Objective
from t5x_style.errors import UserError
from t5x_style.likelihoods import Likelihood


class Part(NamedTuple):
  """A component of a run.

  Attributes:
    name: in the logs.
    objective: None for a SeqIO task of the user's own.
    likelihood: what its loss measures.
    has_inputs: whether its examples have "inputs".
  """

  name: str
  objective: Objective | None
  likelihood: Likelihood
  has_inputs: bool


class Facts(NamedTuple):
  """What training has to know; the attributes are those of training.dataset.Dataset."""

  name: str
  component_names: tuple[str, ...]
  max_targets: int | None
  likelihoods: tuple[Likelihood, ...]
  label_names: tuple[str, ...]
  exact_match: bool
  bytes_are_comparable: bool  # the bits per byte of the components, with those of other models
  documents_apart: str  # says whether documents of a row see each other
  text_runs_on: bool  # from one row into another; False: windows end where documents do


class DatasetOfObjectives:
  """The attributes of training.dataset.Dataset that follow from the objectives of a run.

  Attributes:
    name: of the objective, or of the user's own task or mixture.
    component_names: of a mixture's parts, () for a single one.
    max_targets: the most positions of a row that carry loss, or None if all may.
    likelihoods: what the loss of each part of a mixture, or of the single one, measures.
    label_names: of the classes, if the class of each row is all that is predicted; else ().
    exact_match: whether the targets of each example are an answer, right as a whole or not.
    documents_apart: says whether documents of a row see each other.
    text_runs_on: whether text runs on from one row into another.
  """

  def __init__(self, facts: Facts):
    """Takes the facts of a run over, each under its name."""
    self.name = facts.name
    self.component_names, self.max_targets = facts.component_names, facts.max_targets
    self.likelihoods, self.label_names = facts.likelihoods, facts.label_names
    self.exact_match, self.documents_apart = facts.exact_match, facts.documents_apart
    self.text_runs_on = facts.text_runs_on


def of(name: str, parts: Sequence[Part], lengths: Mapping[str, int], architecture: str) -> Facts:
  """Returns the facts of a run.

  Args:
    name: of the objective, or of the user's own task or mixture.
    lengths: {task feature: tokens} of a row.

  Raises:
    UserError: a classification is mixed with other objectives.
  """
  likelihoods = tuple(part.likelihood for part in parts)
  own = any(part.objective is None for part in parts)
  answers = [
    part.has_inputs if part.objective is None else part.objective.exact_match for part in parts
  ]
  return Facts(
    name=name,
    component_names=tuple(part.name for part in parts) if len(parts) > 1 else (),
    max_targets=_max_targets(parts, lengths, architecture),
    likelihoods=likelihoods,
    label_names=_label_names(parts),
    exact_match=architecture != "encoder_only" and all(answers),
    bytes_are_comparable=len(set(likelihoods)) == 1 and likelihoods[0].comparable and not own,
    documents_apart=documents_apart(part.objective for part in parts if part.objective),
    text_runs_on=not any(part.objective and part.objective.examples_share_rows for part in parts),
  )


def _max_targets(
  parts: Sequence[Part], lengths: Mapping[str, int], architecture: str
) -> int | None:
  """Returns the largest bound of the components; None if one has none."""
  bounds = []
  for part in parts:
    if part.objective is None:
      return None
    own = part.objective.own_lengths(lengths, architecture)
    bound = part.objective.max_targets(own, architecture)
    if bound is None:
      return None
    bounds.append(bound)
  return max(bounds)


def _label_names(parts: Sequence[Part]) -> tuple[str, ...]:
  names = [part.objective.label_names if part.objective else () for part in parts]
  if len(names) > 1 and any(names):
    raise UserError(
      "OBJECTIVE 'classification' cannot be mixed with others: only the labels carry loss in it. "
      "Train one after the other, with INITIAL_CHECKPOINT_PATH."
    )
  return names[0]


def documents_apart(objectives: Iterable[Objective]) -> str:
  """Says whether documents of a row see each other; "" where rows are not made of documents."""
  crossing = {o.cross_documents for o in objectives if o.how_apart != "always"}
  if not crossing:
    return ""
  if crossing == {False}:
    return "The documents of a row do not see each other, and positions start at 0 in each"
  some = "" if crossing == {True} else " in some components"
  return f"The documents of a row see each other{some}"
