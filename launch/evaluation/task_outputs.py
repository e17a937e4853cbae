"""What a model writes for the examples of a SeqIO task, and how likely it finds their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import seqio

from t5x_style.data import model_ids
from t5x_style.inference import generation, scoring
from t5x_style.inference.mask_filling import longest_row
from t5x_style.trained.loaded_model import LoadedModel

from ..process.errors import ConfigurationError

Example = Mapping[str, Any]  # the features of a task, int [n] each, without padding
# Shows two vocabularies to be the same, if both give it the same ids.
_SAMPLE = "The quick brown fox, 12.5 % of it: def f(x):\n  return {'größer': x}"
_BOTH_WAYS = ("prefix_lm", "span_corruption")  # objectives that mark a prefix in a decoder


class Written(NamedTuple):
  """What a model wrote."""

  tokens: list[int]  # the task's ids, with EOS if it was written
  log_probability: float  # nats


class TaskModel:
  """A trained model that reads the examples of tasks."""

  def __init__(self, trained: LoadedModel, vocabulary: seqio.Vocabulary, batch_size: int):
    """Checks that the model can read and write the task.

    Args:
      vocabulary: of the task's features.
      batch_size: rows at once.

    Raises:
      ConfigurationError: the model has no decoder, or the ids of the task are not the model's.
    """
    self._trained, self._vocabulary, self._batch_size = trained, vocabulary, batch_size
    architecture = trained.config.architecture
    if architecture == "encoder_only":
      raise ConfigurationError(
        f"{trained.path} is an encoder_only model, which neither writes text nor scores targets; "
        "tasks are for encoder_decoder and decoder_only models."
      )
    self._check_vocabulary()
    self.has_encoder = architecture == "encoder_decoder"
    self.reads_both_ways = not self.has_encoder and _reads_both_ways(trained)

  def predict(self, examples: Sequence[Example], max_new_tokens: int) -> list[Written]:
    """Returns what the model writes after the inputs of each example, always the likeliest token.

    Args:
      max_new_tokens: the most tokens to write, EOS included.
    """
    codec, inputs = self._trained.codec, [self._ids(x, "inputs") for x in examples]
    self._check_lengths(inputs, max_new_tokens)
    if self.has_encoder:
      prompts, encoder_inputs = [[codec.start_id] for _ in inputs], inputs
    else:
      prompts, encoder_inputs = [[codec.start_id, *ids] for ids in inputs], None
    with self._trained.partitioner.context():
      found = generation.generate(
        self._trained.model,
        self._trained.params,
        prompts,
        encoder_inputs=encoder_inputs,
        prefix_lm=self.reads_both_ways,
        max_new_tokens=max_new_tokens,
        eos_id=codec.eos_id,
        pad_id=codec.pad_id,
        batch_size=self._batch_size,
      )
    return [
      Written(
        model_ids.from_model(x.tokens, self._vocabulary).tolist(),
        float(x.log_probabilities.sum(dtype=np.float64)),
      )
      for x in found
    ]

  def score(self, examples: Sequence[Example]) -> list[float]:
    """Returns the log-probability of the targets of each example, in nats, given its inputs."""
    rows = [self._row(x) for x in examples]
    self._check_lengths([row.encoder_inputs for row in rows], 0)
    self._check_lengths([row.decoder_inputs for row in rows], 0)
    with self._trained.partitioner.context():
      scores = scoring.score_rows(self._trained.model, self._trained.params, rows)
      return [float(x.log_probabilities.sum(dtype=np.float64)) for x in scores]

  def _row(self, example: Example) -> scoring.Row:
    start = self._trained.codec.start_id
    inputs, targets = self._ids(example, "inputs"), self._ids(example, "targets")
    if self.has_encoder:
      return scoring.Row(targets, range(len(targets)), [start, *targets[:-1]], inputs)
    row = [*inputs, *targets]
    return scoring.Row(
      targets,
      range(len(inputs), len(row)),
      [start, *row[:-1]],
      prefix=len(inputs) + 1 if inputs and self.reads_both_ways else 0,
    )

  def _ids(self, example: Example, feature: str) -> list[int]:
    """Returns the model's ids of a feature; [] if the task has no such feature."""
    return self._to_model(np.asarray(example.get(feature, ()), np.int64)).tolist()

  def _to_model(self, ids: np.ndarray) -> np.ndarray:
    if not model_ids.renumbers(self._vocabulary):
      return ids
    return np.asarray(self._vocabulary.model_ids)[ids]

  def _check_vocabulary(self) -> None:
    codec, vocabulary = self._trained.codec, self._vocabulary
    own = self._to_model(np.asarray(vocabulary.encode(_SAMPLE), np.int64)).tolist()
    same_size = codec.vocab_size == model_ids.vocab_size(vocabulary)
    if same_size and own == list(codec.encode(_SAMPLE)):
      return
    raise ConfigurationError(
      f"The task's vocabulary ({type(vocabulary).__name__}, {model_ids.vocab_size(vocabulary)} "
      f"ids) is not that of {self._trained.path} ({codec.name}, {codec.vocab_size} ids): the same "
      "ids stand for other text. Register the task with the vocabulary of the model."
    )

  def _check_lengths(self, rows: Sequence[Sequence[int]], more: int) -> None:
    longest = longest_row(self._trained.model)
    most = max(map(len, rows), default=0)
    if longest is not None and most + (0 if self.has_encoder else more) > longest:
      raise ConfigurationError(
        f"An example has {most} tokens"
        + (f", and {more} may be written after them" if more and not self.has_encoder else "")
        + f"; {self._trained.path} reads {longest} at most. Cut the examples with --lengths, or "
        "lower --max_new_tokens."
      )


def _reads_both_ways(trained: LoadedModel) -> bool:
  """Returns whether a decoder was trained to read a task's inputs in both directions."""
  if any("objective" not in objective for objective in trained.objectives):
    return "inputs" in trained.row_lengths  # Of the user's own task, they are a prefix.
  return any(
    objective["objective"] in _BOTH_WAYS or objective.get("bidirectional_inputs")
    for objective in trained.objectives
  )
