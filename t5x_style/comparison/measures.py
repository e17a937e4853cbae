"""What is measured of each trained model, and how a measured value is stored as JSON."""

import dataclasses
import math
from collections.abc import Mapping
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
  "masked_accuracy": Measure("masked tokens predicted", "%", "higher", 0.0),
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
  """

  value: float | None
  reason: str = ""
  method: str = ""
  standard_error: float | None = None
  count: int | None = None

  def as_json(self) -> dict[str, Any]:
    return dataclasses.asdict(self)

  @classmethod
  def of_json(cls, content: Mapping[str, Any]) -> "Measured":
    return cls(**content)


def error_of_share(right: float, count: int) -> float:
  """Returns the standard error of the share of `count` items that are right.

  It counts one more as right and one more as wrong, so that eight of eight are no certainty.
  """
  likely = (right + 1) / (count + 2)
  return math.sqrt(likely * (1 - likely) / count)
