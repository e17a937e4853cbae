"""From SeqIO tasks to batches of model features: packing, padding, conversion, mixing.

The words of this room:
  document  a text, as a corpus has it
  window    consecutive tokens of documents joined by EOS, as many as fill the features (windows.py)
  example   task features, {"inputs": ..., "targets": ...}: what an objective makes of a window, or
            what a SeqIO task of the user's own yields
  row       features of static length, one line of a batch: an example padded, or several examples
            packed (packing.py); first task features, then model features (converters.py)
  batch     many rows, features [rows, length]
A mixture draws rows: those of each component are converted, several at once, before they are drawn.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import seqio

from t5x_style import likelihoods
from t5x_style.data import (
  converters,
  corpus_mixture,
  iterator,
  map_options,
  optional_features,
  packing,
  packing_stream,
  skip_counts,
  tasks,
)
from t5x_style.data.tensorflow_setup import tf

_TASK_FEATURES = ("inputs", "targets", "loss_weights")
# Features of rows that the model does not get.
NOT_FOR_MODEL = (skip_counts.KEY, "raw", "raw_hidden")
# What examples of an objective may have in addition when they share rows.
_OF_OBJECTIVES = ("causal_attention", *NOT_FOR_MODEL)
# How many rows are converted at once before they are drawn; the batches do not depend on it.
_CONVERT_ROWS = 16
# How many rows of a component are read to learn how many tokens a row of it has.
_MEASURED_ROWS = 256


@dataclasses.dataclass(frozen=True)
class Pipeline:
  """How examples become batches.

  Attributes:
    parts: (task, rate) of each component.
    architecture: of the model that gets the batches.
    lengths: {task feature: tokens}.
    pack: whether short examples share rows: those of the user's own tasks, and of an objective that
      does not fill its rows.
    shuffle_buffer_size: examples held back to shuffle them, of all components together.
    numbers: of the components in the feature component_ids; by default 0, 1, ... where there are
      several, and no such feature for a single one.
  """

  parts: tuple[tuple[seqio.Task, float], ...]
  architecture: str
  lengths: Mapping[str, int]
  pack: bool
  shuffle_buffer_size: int
  numbers: tuple[int, ...] = ()

  def only(self, chosen: Sequence[int]) -> Pipeline:
    """Returns the pipeline of the components with these indices, which keep their numbers."""
    if len(chosen) == len(self.parts):
      return self
    parts = tuple(self.parts[index] for index in chosen)
    return dataclasses.replace(self, parts=parts, numbers=tuple(chosen))

  def trained(self) -> Pipeline:
    """Returns the pipeline of the components that batches of training are drawn from."""
    return self.only([i for i, (_, rate) in enumerate(self.parts) if rate > 0])

  def by_tokens(self) -> Pipeline:
    """Returns the pipeline with the rates of rows that make the rates of this one those of tokens.

    The tokens in a row of a component are the mean of the first rows of its training data.
    """
    rates = [rate for _, rate in self.parts]
    tokens = [self._tokens_per_row(i) if rate else 1.0 for i, rate in enumerate(rates)]
    shares = corpus_mixture.shares_of_rows(rates, tokens)
    tasks_ = [task for task, _ in self.parts]
    return dataclasses.replace(self, parts=tuple(zip(tasks_, shares, strict=True)))

  def _tokens_per_row(self, index: int) -> float:
    """Returns the mean of the tokens, without padding, in the first rows of a component."""
    examples = self.examples(index, "train", 0, training=False, shuffle=False)
    rows = self._rows(index, examples).take(_MEASURED_ROWS).batch(_CONVERT_ROWS)
    read, count = 0, 0
    for batch in iterator.arrays(self._convert(index, rows)):
      sides = [batch.get(name) for name in ("encoder_input_tokens", "decoder_target_tokens")]
      read += sum(int((side > 0).sum()) for side in sides if side is not None)
      count += len(next(iter(batch.values())))
    return read / max(count, 1) or 1.0

  def epochs_read(self, counts: Sequence[np.ndarray], streams: int) -> dict[str, float]:
    """Returns {corpus: how often its text has been read}, by all of its components together.

    Args:
      counts: the newest skip_counts of some streams, each [components, 4], or [4] of one component.
      streams: how many the data is divided into.

    Returns:
      the mean over the given streams; {} if the corpora of the run have no names.
    """
    labels = [getattr(task, "corpus", "") for task, _ in self.parts]
    if not any(labels):
      return {}
    sizes = [_documents(task, streams) for task, _ in self.parts]
    read = np.mean([skip_counts.epochs(each, sizes) for each in counts], axis=0)
    return {
      label: float(sum(epochs for own, epochs in zip(labels, read, strict=True) if own == label))
      for label in dict.fromkeys(labels)
    }

  def of_each_corpus(self) -> list[Pipeline]:
    """Returns a pipeline for each corpus, in their order."""
    corpora = [getattr(task, "corpus", "") for task, _ in self.parts]
    if not any(corpora):
      return [self]
    each = []
    for corpus in dict.fromkeys(corpora):
      found = self.only([i for i, name in enumerate(corpora) if name == corpus])
      # Its share of the rows, which may be 0, is that of training.
      parts = tuple((task, task.rate) for task, _ in found.parts)
      each.append(dataclasses.replace(found, parts=parts))
    return each

  def batches(
    self,
    split: str,
    rows: int,
    seed: int,
    *,
    training: bool,
    shard: tuple[int, int] = (0, 1),
  ) -> tf.data.Dataset:
    """Returns batches of model features: endless and full in training, else one pass.

    Both are shuffled, so that the first batches of an evaluation are a fair sample of the split.
    Batches also hold the features NOT_FOR_MODEL that their examples have.
    """
    each = [
      self.examples(index, split, seed, training=training, shard=shard)
      for index in range(len(self.parts))
    ]
    return self.assemble(each, rows, derived_seed(seed, "mixture", *shard), full=training)

  def assemble(
    self, examples: Sequence[tf.data.Dataset], rows: int, seed: int, *, full: bool
  ) -> tf.data.Dataset:
    """Returns batches from the examples of the components, drawn at their rates.

    Args:
      examples: for each component, what `examples` returns.
      rows: rows of a batch.
      seed: of the draw.
      full: whether a last batch of fewer rows is left out.
    """
    each = [self._rows(index, dataset) for index, dataset in enumerate(examples)]
    if len(each) == 1:
      return self._convert(0, each[0].batch(rows, drop_remainder=full))
    each = [self._convert(i, r.batch(_CONVERT_ROWS)).unbatch() for i, r in enumerate(each)]
    specs = {name: spec for r in each for name, spec in r.element_spec.items()}
    each = [r.map(functools.partial(_complete, names=specs), **map_options.IN_ORDER) for r in each]
    rates = np.array([rate for _, rate in self.parts])
    mixed = tf.data.Dataset.sample_from_datasets(
      each,
      list(rates / rates.sum()),
      seed=seed,
      # After a corpus has ended, the others get its share.
      stop_on_empty_dataset=not (full and self._ends()),
      rerandomize_each_iteration=False,
    )
    return mixed.batch(rows, drop_remainder=full)

  def _ends(self) -> bool:
    """Returns whether a component of training may end."""
    return any(getattr(task, "most_epochs", None) is not None for task, _ in self.parts)

  def examples(
    self,
    index: int,
    split: str,
    seed: int,
    *,
    training: bool,
    shard: tuple[int, int] = (0, 1),
    shuffle: bool = True,
  ) -> tf.data.Dataset:
    """Returns the examples of component `index`."""
    task, rate = self.parts[index]
    share = rate / sum(rate for _, rate in self.parts)
    return task.get_dataset(
      self.lengths,
      split,
      shuffle=shuffle,
      shuffle_buffer_size=max(1, round(self.shuffle_buffer_size * share)),
      seed=seed,
      shard_info=seqio.ShardInfo(*shard) if shard[1] > 1 else None,
      num_epochs=None if training else 1,
      try_in_mem_cache=False,
    )

  def likelihood(self, task: seqio.Task) -> likelihoods.Likelihood:
    """Returns what the loss of the component `task` measures."""
    if isinstance(task, tasks.PretrainingTask):
      return task.objective.likelihood
    reads_inputs = self.architecture != "decoder_only" or "inputs" in self.lengths
    return likelihoods.CONDITIONAL if reads_inputs else likelihoods.EXACT

  def packs(self, task: seqio.Task) -> bool:
    """Returns whether examples of the component `task` share rows."""
    return not _fills_rows(task) and self.pack and self.architecture != "encoder_only"

  def _rows(self, index: int, examples: tf.data.Dataset) -> tf.data.Dataset:
    """Examples of component `index` -> rows of task features."""
    task = self.parts[index][0]
    windows = _fills_rows(task)
    several = len(self.parts) > 1
    number = self.numbers[index] if self.numbers else index if several else None
    own = _OF_OBJECTIVES if isinstance(task, tasks.PretrainingTask) else ()
    kept = (*_TASK_FEATURES, *own)

    @map_options.as_written
    def prepare(example):
      if windows:
        example = {name: self._pad(name, value) for name, value in example.items()}
      else:
        example = {k: v for k, v in example.items() if k in kept}
      if number is not None:
        example["component_ids"] = tf.zeros_like(example["targets"]) + number
      if several and skip_counts.KEY in example:
        counts = example[skip_counts.KEY]
        example[skip_counts.KEY] = skip_counts.of_component(counts, index, len(self.parts))
      return example

    if not windows or task.objective.budget or number is not None:
      examples = examples.map(prepare, **map_options.IN_ORDER)
    if windows:
      return examples
    if self.packs(task):
      return packing_stream.pack(examples, self.architecture, self.lengths)
    aligned = set(packing.ALIGNED) & set(examples.element_spec)
    widths = {**self.lengths, **dict.fromkeys(aligned, self.lengths["targets"])}
    return seqio.utils.trim_and_pad_dataset(examples, widths)

  def _pad(self, name: str, value: tf.Tensor) -> tf.Tensor:
    """Pads a feature of a component that has a `budget`: its examples are shorter than the rows."""
    if name in NOT_FOR_MODEL or value.shape.rank == 0:
      return value
    side = "inputs" if name.startswith("inputs") or name == "token_types" else "targets"
    missing = self.lengths[side] - value.shape[0]
    return tf.pad(value, [[0, missing]]) if missing else value

  @map_options.as_written
  def _convert(self, index: int, batches: tf.data.Dataset) -> tf.data.Dataset:
    """Rows of component `index` -> batches of model features."""
    task = self.parts[index][0]
    causal = isinstance(task, tasks.PretrainingTask) and task.objective.causal_inputs

    def convert(batch):
      features = converters.convert(batch, self.architecture, self.lengths)
      if causal:
        features.pop("decoder_causal_attention", None)
      return features | {name: batch[name] for name in NOT_FOR_MODEL if name in batch}

    return batches.map(convert, **map_options.IN_ORDER)


def _documents(task: seqio.Task, streams: int) -> float | None:
  """Returns how many training documents a task has in each of the streams, if it is known."""
  count = task.source.num_input_examples("train")
  return count / streams if count else None


def _fills_rows(task: seqio.Task) -> bool:
  """Returns whether each example of a task is a row of a static length."""
  return isinstance(task, tasks.PretrainingTask) and task.fills_rows


def derived_seed(*parts: object) -> int:
  """Returns a seed of 62 bits, a hash of `parts`; it is the same on every machine."""
  digest = hashlib.sha256(repr(parts).encode()).digest()
  return int.from_bytes(digest[:8], "little") >> 2


@map_options.as_written
def _complete(row: converters.Features, names: Mapping[str, tf.TensorSpec]) -> converters.Features:
  """Adds to a row the features `names` that only other components have."""
  row = dict(row)
  if skip_counts.KEY in names and skip_counts.KEY not in row:
    spec = names[skip_counts.KEY]
    row[skip_counts.KEY] = tf.zeros(spec.shape, spec.dtype)
  return optional_features.complete(row, names)
