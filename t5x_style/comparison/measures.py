"""What is measured of each trained model, and how a measured value is stored as JSON."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

Better = Literal["higher", "lower", ""]  # "": a fact, which ranks nothing


class Measure(NamedTuple):
  """A column of the table of measures.

  Attributes:
    title: a few words.
    unit: "%" (values are shares from 0 to 1), "bits/byte", "tokens/s", "FLOPs", "bytes" or "".
    better: which values are better.
    chance: the value of guessing; None where there is no such value.
  """

  title: str
  unit: str
  better: Better
  chance: float | None = None


# In the order of the report.
MEASURES: Mapping[str, Measure] = {
  "completion": Measure("completion of passages", "bits/byte", "lower"),
  "choice_of_four": Measure("the right one of four fillings", "%", "higher", 0.25),
  "infilling": Measure("holes filled exactly", "%", "higher", 0.0),
  "pairs": Measure("minimal pairs of held-out text", "%", "higher", 0.5),
  "blimp": Measure("minimal pairs of PAIRS_FILE", "%", "higher", 0.5),
  "masked_accuracy": Measure("masked tokens predicted", "%", ""),  # At another rate, another task.
  "classification": Measure("fine-tuned classification", "%", "higher"),
  "signal_density": Measure("signal density", "%", ""),
  "tokens_per_second": Measure("speed of training", "tokens/s", ""),
  "flops": Measure("FLOPs of training", "FLOPs", ""),
  "memory": Measure("parameters and optimizer", "bytes", ""),
}


@dataclasses.dataclass(frozen=True)
class Measured:
  """One measured value.

  Attributes:
    value: in the unit of its measure; None if this model has none.
    reason: why there is none.
    method: how it was measured, in one sentence that the report prints.
    standard_error: of the value, from the number of items; None where it is not known.
    count: of the items (passages, pairs, texts) that it is a mean of.
    deviations: what each item, or group of items that depend on each other, adds to the value
      beside the mean; their sum is 0. Two models that were asked the same items are compared by the
      differences of these (`error_of_difference`). None where they are not known.
  """

  value: float | None
  reason: str = ""
  method: str = ""
  standard_error: float | None = None
  count: int | None = None
  deviations: tuple[float, ...] | None = None

  def as_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  @classmethod
  def of_json(cls, content: Mapping[str, Any]) -> "Measured":
    kept = content.get("deviations")
    return cls(**{**content, "deviations": None if kept is None else tuple(kept)})


def error_of_difference(one: Sequence[float], other: Sequence[float]) -> float:
  """Returns the standard error of the difference of two values, from `deviations` of both.

  It is that of the mean of paired differences: what makes an item hard for both models, such as a
  rare word, does not count.
  """
  count = len(one)
  squares = sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
  return math.sqrt(squares * count / (count - 1))


def error_of_share(right: float, count: int) -> float:
  """Returns the standard error of the share of `count` items that are right.

  It counts one more as right and one more as wrong, so that eight of eight are no certainty.
  """
  likely = (right + 1) / (count + 2)
  return math.sqrt(likely * (1 - likely) / count)
