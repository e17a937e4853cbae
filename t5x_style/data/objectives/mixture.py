"""Several objectives in one run, drawn at rates; the logs have a loss for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from t5x_style.data.objectives.base import Objective
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.errors import UserError
from t5x_style.setting_types import PositiveFloat, Text


@dataclasses.dataclass(frozen=True)
class Mixture(Objective):
  """Draws every example from one of several objectives for the same architecture.

  Each objective reads the corpus on its own and cuts windows of its own length; its `budget` can
  make them shorter. Rows carry their component (`*_component_ids`) for the loss of each.

  Attributes:
    objectives: the parts.
    rates: how often each is drawn, in any unit; () draws all equally often.
    names: of the parts in the logs; () takes the objectives' names, numbered where they repeat.
    cross_documents: True leaves this to the parts, False keeps documents apart in all of them.
    temperature: rates are raised to 1 / temperature; above 1 it makes them more equal.
  """

  name = "mixture"
  how_apart = "examples"

  objectives: Sequence[Objective] = ()
  rates: Sequence[PositiveFloat] = ()
  names: Sequence[Text] = ()
  temperature: PositiveFloat = 1.0

  @property
  def architectures(self) -> tuple[str, ...]:  # type: ignore[override]
    parts = [objective.architectures for _, objective, _ in self.components()]
    return tuple(a for a in parts[0] if all(a in part for part in parts))

  def components(self) -> tuple[tuple[str, Objective, float], ...]:
    count = len(self.objectives)
    rates = self.rates or (1.0,) * count
    if not count or len(rates) != count or min(rates) <= 0 or self.temperature <= 0:
      raise UserError(
        f"Mixture.objectives has {count} parts and Mixture.rates is {list(self.rates)} at "
        f"temperature {self.temperature}; set mixture.Mixture.rates to one positive number for "
        "each of mixture.Mixture.objectives."
      )
    rates = [rate ** (1 / self.temperature) for rate in rates]
    names = list(self.names) or _numbered([objective.name for objective in self.objectives])
    if len(set(names)) != count:
      raise UserError(f"Mixture.names = {names} needs a different name for each of {count} parts.")
    parts = self.objectives
    if not self.cross_documents:
      parts = [objective.with_cross_documents(False) for objective in parts]
    return tuple(zip(names, parts, rates, strict=True))

  def with_cross_documents(self, cross: bool) -> Mixture:
    parts = [objective.with_cross_documents(cross) for objective in self.objectives]
    return dataclasses.replace(self, objectives=parts, cross_documents=cross)

  def for_corpus(self, corpus: Any) -> Mixture:
    known = [objective.for_corpus(corpus) for objective in self.objectives]
    return dataclasses.replace(self, objectives=known)

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    """Returns the longest length of each feature over the parts."""
    for name, objective, _ in self.components():
      budget = objective.budget or {}
      long = [key for key, length in budget.items() if length > feature_lengths.get(key, 0)]
      if long:
        raise UserError(
          f"the budget {dict(budget)} of the component {name} is more than TASK_FEATURE_LENGTHS = "
          f"{dict(feature_lengths)} gives {long[0]!r}: rows have room for the longest component. "
          "Raise TASK_FEATURE_LENGTHS, or lower the budget."
        )
    parts = [o.own_lengths(feature_lengths, architecture) for _, o, _ in self.components()]
    return {name: max(part[name] for part in parts) for name in parts[0]}

  def check(self, ids: TokenIds, lengths: Mapping[str, int], architecture: str) -> None:
    self.check_architecture(architecture)
    for _, objective, _ in self.components():
      own = objective.own_lengths(lengths, architecture)
      objective.check(ids, own, architecture)


def _numbered(names: Sequence[str]) -> list[str]:
  """["a", "b", "a"] -> ["a_1", "b", "a_2"]."""
  seen: dict[str, int] = {}
  result = []
  for name in names:
    seen[name] = seen.get(name, 0) + 1
    result.append(f"{name}_{seen[name]}" if names.count(name) > 1 else name)
  return result
