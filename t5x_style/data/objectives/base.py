"""The base class of the objectives: lengths, checks before a run, and what becomes of the text.

An objective says what examples it makes of windows (`corrupt_window`) or of documents
(`examples_of_document`), with the operations of t5x_style/data/arrays.py. The stream of SeqIO does
it with TensorFlow (`preprocessor`), a token cache with NumPy; the examples are the same.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from t5x_style import likelihoods
from t5x_style.data.arrays import Features
from t5x_style.data.pieces import Cutting
from t5x_style.data.tokenizers import token_ids
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.data.tokenizers.vocabulary import Vocabulary
from t5x_style.data.windows import CorruptWindow
from t5x_style.errors import UserError
from t5x_style.likelihoods import Likelihood
from t5x_style.setting_types import PositiveInt

if TYPE_CHECKING:
  from t5x_style.data.tensorflow_setup import tf

# How an objective keeps documents apart. "segments": its windows are cut out of joined documents,
# and segment ids number these. "examples": windows end where a document does, so that each is an
# example of its own with sentinels, mode and EOS; short examples share rows (PACK), with segment
# ids. "always": no row has documents that must not see each other, whatever cross_documents says.
Apart = Literal["segments", "examples", "always"]

Preprocessor = Callable[["tf.data.Dataset"], "tf.data.Dataset"]
# {"targets": int32 [n] tokens of a document, ...} -> features of its examples; see
# `Objective.examples_of_document`.
ExamplesOfDocument = Callable[[Features], Features]


@dataclasses.dataclass(frozen=True)
class Objective:
  """Base class of the objectives; each is a file in this folder and a gin file.

  Most make examples of windows; those that read whole documents say so (`reads_documents`). An
  example holds, all of a static length and padded with zeros:
    inputs         int32 [I]: what an encoder reads
    targets        int32 [T]: what is predicted; encoder-only: the original tokens, T = I
    loss_weights   float32 [T], optional: by default 1 where targets are not padding
    causal_attention  int32 [T], optional, decoder-only: 1 on the prefix that is read both ways
    inputs_segment_ids, targets_segment_ids  int32, optional: number the documents of an example
    token_types    int32 [I], encoder-only: sentence pairs
    pair_label     int32 [], encoder-only: the class of a pair or of a text
  Those of the stream also hold
    counts         int64 [4]: what has been skipped so far; see t5x_style.data.skip_counts
    raw, raw_hidden  the window and its hidden tokens, if the documents have "keep_raw"
  With `examples_share_rows` examples are of any lengths up to those of the features.
  All randomness comes from t5x_style.data.noise, which is stateless.

  Attributes:
    budget: in a mixture, lengths of this component instead of TASK_FEATURE_LENGTHS, e.g.
      {"inputs": 256}; its rows are padded to those of the longest component.
    cross_documents: whether the tokens of a document see other documents of their row, in the
      encoder, in the decoder and from one to the other. If not, positions start at 0 in each
      document, and `how_apart` says how the row is made.
  """

  budget: Mapping[str, PositiveInt] | None = dataclasses.field(default=None, kw_only=True)
  cross_documents: bool = dataclasses.field(default=True, kw_only=True)

  name: ClassVar[str] = ""
  architectures: ClassVar[tuple[str, ...]] = ()
  likelihood: ClassVar[Likelihood] = likelihoods.CONDITIONAL  # what the loss measures
  how_apart: ClassVar[Apart | None] = None  # None: it cannot
  target_is_text: ClassVar[bool] = False  # the targets of the corpus are tokenised
  exact_match: ClassVar[bool] = False  # the targets of an example are right as a whole, or not
  reads_documents: ClassVar[bool] = False  # examples are made of whole documents, not of windows
  reads_other_document: ClassVar[bool] = False  # and of a part of another one, "other_targets"

  def for_corpus(self, corpus: Any) -> Objective:
    """Returns the objective with what it has to know of the corpus.

    Raises:
      UserError: the corpus does not have what is to be predicted.
    """
    return self

  def with_cross_documents(self, cross: bool) -> Objective:
    """Returns the objective with attention across the documents of a row, or inside each.

    Raises:
      UserError: it cannot.
    """
    if self.how_apart == "always":
      return self
    if self.how_apart is None and not cross:
      raise UserError(
        f"CROSS_DOCUMENTS = False: the objective {self.name} does not say how documents are kept "
        "apart; set its how_apart (t5x_style.data.objectives.base.Apart), or leave CROSS_DOCUMENTS "
        "at None."
      )
    return dataclasses.replace(self, cross_documents=cross)

  @property
  def examples_share_rows(self) -> bool:
    """Whether examples share rows where PACK is on; otherwise each fills a row."""
    return self.how_apart == "examples" and not self.cross_documents

  @property
  def label_names(self) -> tuple[str, ...]:
    """The names of the classes, if the class of each row is all that is predicted."""
    return ()

  @property
  def causal_inputs(self) -> bool:
    """Whether a decoder-only model reads "inputs" from left to right, not in both directions."""
    return False

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    """Completes TASK_FEATURE_LENGTHS: {"inputs": 512} -> {"inputs": 512, "targets": 114}."""
    raise NotImplementedError

  def own_lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    """Returns `lengths` for the budget if there is one, else for `feature_lengths`."""
    return self.lengths(self.budget or feature_lengths, architecture)

  def check(self, ids: TokenIds, lengths: Mapping[str, int], architecture: str) -> None:
    """Raises UserError, which says what to change, if the objective cannot work."""
    self.check_architecture(architecture)

  def check_documents(self, documents: Callable[[], tf.data.Dataset], where: str) -> None:
    """Raises UserError if the objective cannot use the documents of an epoch.

    Args:
      documents: opens the tokenised documents of an epoch, in the order of the files.
      where: names them in the message: "the 'train' split".
    """

  def check_texts(
    self, documents: Callable[[], tf.data.Dataset], lengths: Mapping[str, int], where: str
  ) -> None:
    """Warns if the texts of `documents`, as in `check_documents`, do not fit the lengths."""

  @property
  def windows_are_joined(self) -> bool:
    """Whether windows are cut from documents joined by EOS; if not, each is of one document."""
    return self.cross_documents or self.how_apart == "segments"

  def window_length(self, lengths: Mapping[str, int], architecture: str) -> int:
    """Returns the tokens of a window, of which the example fills its features."""
    raise NotImplementedError

  def corrupt_window(
    self, ids: TokenIds, lengths: Mapping[str, int], architecture: str
  ) -> CorruptWindow:
    """Returns the function that makes examples of windows, several at once.

    It uses the operations of t5x_style/data/arrays.py, and no `if` on values: xp.where.
    """
    raise NotImplementedError

  def examples_of_document(
    self, ids: TokenIds, lengths: Mapping[str, int], architecture: str
  ) -> ExamplesOfDocument:
    """Returns the function that makes examples of a document, if `reads_documents`.

    A document is {"targets": int32 [n] without EOS, "noise_seed": int64 [2] (run seed, epoch)}. Of
    a corpus with targets it has "target" (string) and, with `target_is_text`, its "target_tokens"
    (int32 [n] without EOS). What else it needs, and whether it gives one example or several
    [B, ...], says the objective.
    """
    raise NotImplementedError

  def pieces(self, lengths: Mapping[str, int], architecture: str) -> Cutting:
    """Returns how documents of a token cache are cut where each is cut on its own."""
    if self.reads_documents:
      return Cutting("whole")
    return Cutting("windows", self.window_length(lengths, architecture))

  def most_tokens(
    self,
    tokens: np.ndarray,
    targets: np.ndarray | None,
    lengths: Mapping[str, int],
    architecture: str,
  ) -> dict[str, np.ndarray]:
    """Returns the most tokens that examples may have, to plan which of them share rows.

    Args:
      tokens: int64 [n], of the window or document of each example.
      targets: int64 [n], of the target of each document, with `target_is_text`; else None.

    Returns:
      {feature: int64 [n]} for each of `features`; they are at most `lengths`.
    """
    return {name: np.full_like(tokens, lengths[name]) for name in self.features(architecture)}

  def preprocessor(
    self, vocabulary: Vocabulary, lengths: Mapping[str, int], architecture: str
  ) -> Preprocessor:
    """Returns documents -> examples, for the stream of SeqIO.

    Documents are as in `examples_of_document`. Where a source reads a long document as several,
    these have the same number "document".
    """
    from t5x_style.data import window_stream

    ids = token_ids.of(vocabulary)
    corrupt = self.corrupt_window(ids, lengths, architecture)
    length = self.window_length(lengths, architecture)

    def preprocess(documents: tf.data.Dataset) -> tf.data.Dataset:
      return window_stream.examples(
        documents, length, corrupt, eos_id=ids.eos_id, joined=self.windows_are_joined
      )

    return preprocess

  def features(self, architecture: str) -> tuple[str, ...]:
    """Returns the token features of an example; decoder-only: one sequence, any prefix included."""
    return ("targets",) if architecture == "decoder_only" else ("inputs", "targets")

  def max_targets(self, lengths: Mapping[str, int], architecture: str) -> int | None:
    """Returns the most positions of a row that carry loss; None if all of them may."""
    return None

  def components(self) -> tuple[tuple[str, Objective, float], ...]:
    """Returns (name, objective, rate) of each part; what is not a mixture is its only part."""
    return ((self.name, self, 1.0),)

  def identity(self) -> dict[str, Any]:
    """Returns the fields that decide on the examples; a run resumes only if they are the same."""
    return {"objective": self.name, **_plain(self)}

  def check_architecture(self, architecture: str) -> None:
    """Raises UserError, which names objectives that fit, if `architecture` is not supported."""
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
    """Returns the user's length of `feature`; raises UserError if missing or below `minimum`."""
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
    """Returns the length of a decoder-only row, the sum of "inputs" and "targets" that are set."""
    given = {k: v for k, v in dict(feature_lengths or {}).items() if k in ("inputs", "targets")}
    if not given:
      return self.required_length(feature_lengths, "targets", minimum, why)
    for feature in given:
      self.required_length(given, feature, 1, why)
    return self.required_length({"targets": sum(given.values())}, "targets", minimum, why)

  def targets_length(self, feature_lengths: Mapping[str, int], needed: int, why: str) -> int:
    """Returns the user's length of "targets", by default `needed`; raises UserError if below.

    Args:
      feature_lengths: TASK_FEATURE_LENGTHS.
      needed: the most target tokens of an example.
      why: a clause that ends with the number of tokens, for the message.
    """
    targets = feature_lengths.get("targets", needed)
    if targets < needed:
      raise UserError(
        f"TASK_FEATURE_LENGTHS['targets'] = {targets} cuts the targets of {self.name}: {why}. "
        f"Leave 'targets' out (it is computed) or set it to {needed}."
      )
    return targets

  def check_number(self, field: str, low: float, high: float) -> None:
    """Raises UserError unless the value of `field` is between `low` and `high`, both excluded."""
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
    if not _is_default_of_all(objective, field)
  }


def _is_default_of_all(objective: Objective, field: dataclasses.Field) -> bool:
  """Returns whether a field that all objectives have is at its default, as in old checkpoints.

  A field that a class defines again, as CausalLM does cross_documents, is always written.
  """
  inherited = any(field is x for x in dataclasses.fields(Objective))
  return inherited and (getattr(objective, field.name) or None) == (field.default or None)


def _json(value: Any) -> Any:
  if isinstance(value, Objective):
    return value.identity()
  if isinstance(value, (list, tuple)):
    return [_json(v) for v in value]
  if isinstance(value, dict):
    return {str(k): _json(v) for k, v in value.items()}
  return value


def known() -> list[type[Objective]]:
  """Returns the objective classes of this folder and of all modules that are imported."""
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
  """Returns the architectures of a class; a mixture has none before its parts are known."""
  return objective.architectures if isinstance(objective.architectures, tuple) else ()
