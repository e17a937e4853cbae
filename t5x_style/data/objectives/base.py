"""What a pre-training objective is: lengths, start-up checks and one preprocessor."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import seqio
import tensorflow as tf

from t5x_style.errors import UserError
from t5x_style.ranges import PositiveInt

Preprocessor = Callable[[tf.data.Dataset], tf.data.Dataset]
# As TransformerConfig.architecture names them.
ARCHITECTURES = ("encoder_decoder", "decoder_only", "encoder_only")


@dataclasses.dataclass(frozen=True)
class Objective:
  """Base of every objective; a subclass is one file of t5x_style/data and one gin file.

  The preprocessor maps token documents {"targets": int32 [n] without EOS, "noise_seed": int64 [2]
  (run seed, epoch)} to examples; where a source reads a long document as several, these have the
  same number as "document". An example holds (all of a static length, zero padded):
    inputs         int32 [I]: what an encoder reads
    targets        int32 [T]: what is predicted; encoder-only: the original tokens, T = I
    loss_weights   float32 [T], optional: default 1 where targets are not padding
    causal_attention  int32 [T], optional, decoder-only: 1 on the prefix that is read both ways
    inputs_segment_ids, targets_segment_ids  int32, optional: documents of a packed example
    token_types    int32 [I], pair_label int32 []: sentence pairs, encoder-only
    counts         int64 [4]: what has been skipped so far; see t5x_style.data.skipping
    raw, raw_hidden  the window and what of it is hidden, where the documents have "keep_raw"
  All its randomness comes from t5x_style.data.noise, which is stateless.

  Attributes:
    budget: of a mixture's component: lengths of its own instead of TASK_FEATURE_LENGTHS, e.g.
      {"inputs": 256}; its rows are padded to the longest component's.
  """

  budget: Mapping[str, PositiveInt] | None = dataclasses.field(default=None, kw_only=True)

  name: ClassVar[str] = ""
  architectures: ClassVar[tuple[str, ...]] = ()
  bits_per_byte: ClassVar[bool] = False  # the loss is the log-likelihood of the whole text

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    """Completes TASK_FEATURE_LENGTHS: {"inputs": 512} -> {"inputs": 512, "targets": 114}."""
    raise NotImplementedError

  def own_lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    """`lengths` of the budget, where it has one."""
    return self.lengths(self.budget or feature_lengths, architecture)

  def check(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> None:
    """Raises UserError, naming what to change, where the objective cannot work."""
    self.check_architecture(architecture)

  def check_documents(self, documents: Callable[[], tf.data.Dataset], where: str) -> None:
    """Raises UserError where an epoch cannot be trained on.

    Args:
      documents: opens the token documents of the epoch, in the order of the files.
      where: what they are of, for the message: "the 'train' split".
    """

  def preprocessor(
    self, vocabulary: seqio.Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    """Documents -> examples. Functions it maps run without AutoGraph: tf.where, not `if`."""
    raise NotImplementedError

  def features(self, architecture: str) -> tuple[str, ...]:
    """The token features of an example; a decoder-only example is one sequence, prefix included."""
    return ("targets",) if architecture == "decoder_only" else ("inputs", "targets")

  def max_targets(self, lengths: Mapping[str, int], architecture: str) -> int | None:
    """Static upper bound of the positions with loss in a row, None where every one may have it."""
    return None

  def components(self) -> tuple[tuple[str, Objective, float], ...]:
    """(name, objective, rate) of each part; a single objective is its own only part."""
    return ((self.name, self, 1.0),)

  def describe(self) -> dict[str, Any]:
    """The fields that make the examples what they are, for the identity of a run."""
    return {"objective": self.name, **_plain(self)}

  def check_architecture(self, architecture: str) -> None:
    if architecture in self.architectures:
      return
    fitting = sorted({o.name for o in known() if architecture in _fits(o)})
    raise UserError(
      f"OBJECTIVE {self.name!r} feeds {' and '.join(self.architectures)} models, but MODEL is "
      f"{architecture}. For {architecture} models there are: {', '.join(fitting)} "
      "(include gin_configs/objectives/<name>.gin instead); or include a model of a fitting "
      "architecture."
    )

  def required_length(
    self, feature_lengths: Mapping[str, int], feature: str, minimum: int, why: str
  ) -> int:
    """The user's length of `feature`; UserError when it is missing or below `minimum`."""
    given = dict(feature_lengths or {})
    if feature not in given:
      raise UserError(
        f"TASK_FEATURE_LENGTHS = {given} has no {feature!r}, which {self.name} needs; write e.g. "
        f"TASK_FEATURE_LENGTHS = {{{feature!r}: 512}} in the gin file."
      )
    length = given[feature]
    if not isinstance(length, int) or length < minimum:
      raise UserError(
        f"TASK_FEATURE_LENGTHS[{feature!r}] = {length!r} is too small for {self.name}: {why}; "
        f"set it to at least {minimum}."
      )
    return length

  def total_length(self, feature_lengths: Mapping[str, int], minimum: int, why: str) -> int:
    """The length of a decoder-only row: "targets" and "inputs" together, or the one that is set."""
    given = {k: v for k, v in dict(feature_lengths or {}).items() if k in ("inputs", "targets")}
    if not given:
      return self.required_length(feature_lengths, "targets", minimum, why)
    for feature in given:
      self.required_length(given, feature, 1, why)
    return self.required_length({"targets": sum(given.values())}, "targets", minimum, why)

  def check_number(self, field: str, low: float, high: float) -> None:
    """UserError unless low < field < high."""
    value = getattr(self, field)
    if not low < value < high:
      raise UserError(
        f"{type(self).__name__}.{field} = {value} is outside ({low}, {high}); set "
        f"{self.name}.{type(self).__name__}.{field} in the gin file."
      )


def _plain(objective: Objective) -> dict[str, Any]:
  return {
    field.name: _json(getattr(objective, field.name))
    for field in dataclasses.fields(objective)
    if field.name != "budget" or objective.budget
  }


def _json(value: Any) -> Any:
  if isinstance(value, Objective):
    return value.describe()
  if isinstance(value, (list, tuple)):
    return [_json(v) for v in value]
  if isinstance(value, dict):
    return {str(k): _json(v) for k, v in value.items()}
  return value


def known() -> list[type[Objective]]:
  """Every objective class of t5x_style.data.objectives and of the modules the user has imported."""
  package = importlib.import_module("t5x_style.data.objectives")
  for module in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"{package.__name__}.{module.name}")
  found, todo = [], [Objective]
  while todo:
    subclasses = todo.pop().__subclasses__()
    found += [c for c in subclasses if c.name]
    todo += subclasses
  return found


def _fits(objective: type[Objective]) -> tuple[str, ...]:
  """The architectures of a class; those of a mixture are known only when its parts are."""
  return objective.architectures if isinstance(objective.architectures, tuple) else ()
