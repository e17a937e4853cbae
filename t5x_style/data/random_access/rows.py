"""Rows of a run: their numbers -> the features that the model gets, and where they came from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from t5x_style.data import converters, model_ids, noise, optional_features
from t5x_style.data.arrays import Features
from t5x_style.data.random_access import permutation
from t5x_style.data.random_access.examples import Examples, Member
from t5x_style.data.random_access.schedule import Schedule
from t5x_style.data.tokenizers.token_ids import TokenIds

# Features of rows that no batch has: the text before the objective, and what of it is hidden.
OF_TEXT = ("raw", "raw_hidden")
_BESIDE_THE_MODEL = (*OF_TEXT, "useful")


class Place(NamedTuple):
  """Which row of the data a row of the run is."""

  component: int
  epoch: int
  unit: int  # of the epoch


class SharedEpochs(NamedTuple):
  """What a component reads of a corpus that several read together, as often as they may.

  The rows of all epochs of the corpus are one line, of which every component has a span of its own.

  Attributes:
    order: the index of the first of these components: all have its order of an epoch.
    first: where the span begins in the line.
    end: where it ends, after `first`.
    in_text_order: whether the rows of an epoch are numbered as their text lies in the cache, where
      it is well mixed. Then a span of an epoch is a range of the text, and components with windows
      of different lengths read different text, too. Rows that several examples share are not: of
      those, only components with the same plan read different text; others read random shares.
  """

  order: int
  first: int
  end: int
  in_text_order: bool

  def places(self, numbers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the epochs of rows and their places in it, int64 [n] each, of `count` rows."""
    # A preview may look at more rows than are trained on.
    return np.divmod(self.first + numbers % (self.end - self.first), count)

  def span(self, epoch: int, count: int) -> tuple[int, int]:
    """Returns where the rows of an epoch begin and how many there are."""
    if not self.in_text_order:
      return 0, count
    low = max(self.first - epoch * count, 0)
    return low, min(self.end - epoch * count, count) - low


@dataclasses.dataclass(frozen=True)
class Component:
  """One objective on one corpus.

  Attributes:
    name: in the logs.
    corpus: its name in the logs; "" if there is only one.
    rate: its share of the rows, in any unit.
    examples: makes the rows of its units.
    causal_inputs: whether a decoder reads "inputs" from left to right.
    number: in the feature *_component_ids; None for the only component.
    shared: None if its rows are those of every epoch.
  """

  name: str
  corpus: str
  rate: float
  examples: Examples
  causal_inputs: bool
  number: int | None
  shared: SharedEpochs | None = None


@dataclasses.dataclass(frozen=True)
class Rows:
  """The rows of a run, each a pure function of its number.

  Attributes:
    components: what rows are drawn from.
    schedule: which component each row comes from.
    architecture: of the model.
    lengths: {task feature: tokens} of a row.
    ids: of the vocabulary.
    seed: of the order of an epoch and of the noise.
  """

  components: Sequence[Component]
  schedule: Schedule
  architecture: str
  lengths: Mapping[str, int]
  ids: TokenIds
  seed: int

  def epochs(self, rows: int) -> dict[str, float]:
    """Returns {corpus: how often it is read by the first `rows` rows}; {} if there is only one."""
    found: dict[str, float] = {}
    for component, count in zip(self.components, self.schedule.counts(rows), strict=True):
      if component.corpus:
        read = float(count) / max(component.examples.count, 1)
        found[component.corpus] = found.get(component.corpus, 0.0) + read
    return found

  def places(self, rows: np.ndarray) -> list[Place]:
    """Returns where rows, int64 [n], come from."""
    found, numbers = self.schedule(rows)
    places = []
    for index, number in zip(found.tolist(), numbers.tolist(), strict=True):
      units, epochs = self._units(index, np.array([number]))
      places.append(Place(index, int(epochs[0]), int(units[0])))
    return places

  def members(self, place: Place) -> list[Member]:
    """Returns the parts of documents that a row is made of."""
    component = self.components[place.component]
    return component.examples.members(place.unit, place.epoch)

  def features(self, rows: np.ndarray) -> Features:
    """Returns what the model gets of rows, int64 [n] -> {feature: [n, ...]}; "useful", bool [n]."""
    found, numbers = self.schedule(rows)
    result: Features = {"useful": np.ones(len(rows), bool)}
    for index in np.unique(found).tolist():
      chosen = np.flatnonzero(found == index)
      part = self.first_of_component(index, numbers[chosen])
      for name, value in model_ids.converted(part, self.ids).items():
        if name in OF_TEXT:
          continue
        if name not in result:
          result[name] = np.zeros((len(rows), *value.shape[1:]), value.dtype)
        result[name][chosen] = value
    return result

  def of_component(self, index: int, units: np.ndarray, epochs: np.ndarray) -> Features:
    """Returns rows of one component, int64 [n] each -> {feature: [n, ...]}, in the ids of TokenIds.

    They have all features of a batch, those OF_TEXT and "useful".
    """
    return optional_features.complete(self._converted(index, units, epochs), self.optional)

  def first_of_component(self, index: int, numbers: np.ndarray) -> Features:
    """Returns rows of one component by their numbers among its rows, as `of_component`."""
    return self.of_component(index, *self._units(index, numbers))

  @functools.cached_property
  def optional(self) -> tuple[str, ...]:
    """The names of all features of a batch."""
    names: dict[str, None] = {}
    for index, component in enumerate(self.components):
      if component.examples.count:
        zero = np.zeros(1, np.int64)
        part = self._converted(index, zero, zero)
        names |= dict.fromkeys(name for name in part if name not in _BESIDE_THE_MODEL)
    return tuple(names)

  def _units(self, index: int, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the units of the rows of a component, and their epochs, int64 [n] each."""
    count, shared = self.components[index].examples.count, self.components[index].shared
    if shared is not None:
      return self._shared_units(shared, count, numbers)
    epochs, places = np.divmod(numbers, count)
    keys = noise.mix(order_key(self.seed, index) ^ epochs.astype(np.uint64))
    return permutation.permuted(places, count, keys), epochs

  def _shared_units(
    self, shared: SharedEpochs, count: int, numbers: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    epochs, places = shared.places(numbers, count)
    units = np.zeros_like(places)
    for epoch in np.unique(epochs).tolist():
      inside = epochs == epoch
      key = noise.mix(order_key(self.seed, shared.order) ^ np.uint64(epoch))
      low, size = shared.span(epoch, count)
      units[inside] = low + permutation.permuted(places[inside] - low, size, key)
    return units, epochs

  def _converted(self, index: int, units: np.ndarray, epochs: np.ndarray) -> Features:
    component = self.components[index]
    rows = component.examples.rows(units, epochs)
    beside = {name: rows.pop(name) for name in _BESIDE_THE_MODEL if name in rows}
    if component.number is not None:
      rows["component_ids"] = np.full_like(rows["targets"], component.number)
    features = converters.convert(rows, self.architecture, self.lengths)
    if component.causal_inputs:
      features.pop("decoder_causal_attention", None)
    return {**features, **beside}


def order_key(seed: int, index: int) -> np.ndarray:
  """Returns the key of the orders of component `index`, uint64 [1]."""
  mixed = noise.mix(np.array([seed], np.int64).view(np.uint64))
  return noise.mix(mixed ^ np.uint64(index + 1))
