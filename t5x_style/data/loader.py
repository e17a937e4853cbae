"""The data of a run: corpus, vocabulary and objective from gin, as batches for one process."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import seqio

from t5x_style.data import iterator, packing, pipeline, skip_counts, tasks
from t5x_style.data.corpora.base import Corpus
from t5x_style.data.objectives.base import ARCHITECTURES, Objective
from t5x_style.data.tokenizers import model_ids, token_text, vocabularies, vocabulary_coverage
from t5x_style.data.tokenizers.base import name_of
from t5x_style.errors import UserError
from t5x_style.ranges import PositiveInt, Text

_EVALUATION_SEED = 0


def load(
  architecture: str,
  batch_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
  *,
  corpus: Corpus | None = None,
  vocabulary: seqio.Vocabulary | None = None,
  objective: Objective | None = None,
  feature_lengths: Mapping[str, PositiveInt] | None = None,
  mixture_or_task_name: Text | None = None,
  mixture_or_task_module: Text | None = None,
  pack: bool = True,
  streams: PositiveInt = 1,
  shuffle_buffer_size: PositiveInt = 1024,
) -> Dataset:
  """Opens the data of a run and raises every error it can have before anything is compiled.

  Args:
    architecture: "encoder_decoder", "decoder_only" or "encoder_only", of the model to be fed.
    batch_size: global batch in rows, a multiple of `process_count` and of `streams`.
    seed: of order and noise; with it and the epoch everything is determined.
    process_index, process_count: this process takes the rows of its share of the batch.
    corpus, vocabulary, objective: what is trained on, composed into a SeqIO task.
    feature_lengths: TASK_FEATURE_LENGTHS in tokens; the objective computes what is left out.
    mixture_or_task_name: a registered SeqIO task or mixture instead of corpus and objective, after
      importing `mixture_or_task_module`. Its examples are packed into rows where `pack` is set.
    streams: fixed shards of the data. The batches depend on it, not on the number of processes;
      with several streams each process reads only the part of the data its rows come from.
    shuffle_buffer_size: examples of a stream held back to mix their order.

  Returns:
    a Dataset.
  """
  if architecture not in ARCHITECTURES:
    raise UserError(f"architecture {architecture!r} is none of {', '.join(ARCHITECTURES)}.")
  for count, what in ((process_count, "processes"), (streams, "data streams (DATA_STREAMS)")):
    if count < 1 or batch_size % count:
      raise UserError(f"BATCH_SIZE = {batch_size} does not divide into {count} {what}.")

  if process_count > streams and process_index == 0:
    warnings.warn(
      f"DATA_STREAMS = {streams} and {process_count} processes with rows of their own: each "
      "prepares more of every batch than it keeps. A new run may share the work with "
      f"DATA_STREAMS = {process_count}.",
      stacklevel=1,  # The caller may be gin, whose warnings are not shown.
    )

  if mixture_or_task_name:
    provider = tasks.lookup(mixture_or_task_name, mixture_or_task_module)
    lengths = tasks.lengths(provider, architecture, feature_lengths)
    vocabulary = provider.output_features["targets"].vocabulary
    source: dict[str, Any] = {"mixture_or_task_name": mixture_or_task_name}
  else:
    for value, macro, folder in (
      (corpus, "CORPUS", "data"),
      (vocabulary, "VOCABULARY", "data"),
      (objective, "OBJECTIVE", "objectives"),
    ):
      if value is None:
        raise UserError(f"{macro} is not set; include a file of gin_configs/{folder}/.")
    assert corpus is not None and objective is not None
    objective.check_architecture(architecture)
    lengths = objective.lengths(dict(feature_lengths or {}), architecture)
    objective.check(vocabulary, lengths, architecture)
    provider = tasks.register(corpus, vocabulary, objective, architecture)
    source = {"corpus": {"name": corpus.name, "fingerprint": corpus.fingerprint()}}

  dataset = Dataset(
    mixture_or_task_name or objective.name,  # type: ignore[union-attr]
    pipeline.Pipeline(
      tuple(tasks.parts(provider)), architecture, lengths, pack, shuffle_buffer_size
    ),
    vocabulary,
    batch_size=batch_size,
    seed=seed,
    streams=streams,
    process=(process_index, process_count),
    source=source,
  )
  dataset.check_not_empty()
  if process_index == 0 and dataset.coverage:
    if text := dataset.coverage.warning(name_of(vocabulary)):
      warnings.warn(text, stacklevel=1)
  return dataset


class Dataset:
  """What training needs to know of the data, and its batches.

  Attributes:
    name: of the objective, or of the user's own task or mixture.
    seed, streams: as given to `load`.
    pipeline: how the batches are made; its parts are the SeqIO tasks.
    vocabulary: of the targets; vocab_size counts the ids that a model is fed, extra ids included.
    special_ids: those of them that mean padding, the end and the start of a sequence.
    feature_shapes: {feature: shape and dtype in the global batch}.
    max_targets: static bound of the positions with loss in a row, or None.
    token_bytes: int32 [V], the bytes each id stands for, where the loss is that of the text and
      the tokens keep it whole; or None.
    component_names: of a mixture's parts, () for a single task.
  """

  def __init__(
    self,
    name: str,
    pipeline_: pipeline.Pipeline,
    vocabulary: seqio.Vocabulary,
    *,
    batch_size: int,
    seed: int,
    streams: int,
    process: tuple[int, int],
    source: Mapping[str, Any],
  ):
    self.name = name
    self.pipeline = pipeline_
    self.vocabulary = vocabulary
    self.vocab_size = model_ids.vocab_size(vocabulary)
    self.special_ids = model_ids.special_ids(vocabulary)
    self.batch_size = batch_size
    self.seed = seed
    self.streams = streams
    self._process_index, self._process_count = process
    self._source = dict(source)

    self.component_names = tasks.component_names(pipeline_.parts)
    objectives = [getattr(task, "objective", None) for task, _ in pipeline_.parts]
    bounds = [
      o.max_targets(
        o.own_lengths(pipeline_.lengths, pipeline_.architecture), pipeline_.architecture
      )
      if o
      else None
      for o in objectives
    ]
    few = [bound for bound in bounds if bound is not None]
    self.max_targets = max(few) if len(few) == len(bounds) else None
    whole_text = all(o is not None and o.bits_per_byte for o in objectives)
    self.token_bytes = model_ids.token_bytes(vocabulary) if whole_text else None
    self._batches = {
      stream: model_ids.to_model(
        pipeline_.batches(
          "train", batch_size // streams, seed, training=True, shard=(stream, streams)
        ),
        vocabulary,
      )
      for stream in self._owned()
    }
    spec = next(iter(self._batches.values())).element_spec
    self.feature_shapes = {
      name: jax.ShapeDtypeStruct((batch_size, *s.shape[1:]), s.dtype.as_numpy_dtype)
      for name, s in spec.items()
      if name != skip_counts.KEY
    }

  @functools.cached_property
  def coverage(self) -> vocabulary_coverage.Coverage | None:
    """How the vocabulary covers the first documents; None where that cannot be told."""
    parts = [task for task, _ in self.pipeline.parts]
    return vocabulary_coverage.measure_tasks(parts, self.vocabulary)

  def train(self) -> iterator.BatchIterator:
    """A new iterator from the start of the data."""
    running = {
      stream: iterator.Stream(iterator.with_options(batches.prefetch(2)))
      for stream, batches in self._batches.items()
    }
    rows = self.batch_size // self._process_count
    per_stream = self.batch_size // self.streams
    return iterator.BatchIterator(running, per_stream, self._process_index, rows)

  def evaluation(self, max_batches: int | None) -> list[iterator.Batch]:
    """The first batches of the validation split, in order and with the same noise each time.

    One pass at most; the last batch is filled up with rows of zeros, which carry no weight. Every
    process computes all rows and returns its own.
    """
    names = [task.name for task, _ in self.pipeline.parts]
    absent = [task.name for task, _ in self.pipeline.parts if "validation" not in task.splits]
    batches = []
    if not absent:
      dataset = self.pipeline.batches(
        "validation", self.batch_size, _EVALUATION_SEED, training=False
      )
      dataset = model_ids.to_model(dataset, self.vocabulary)
      dataset = dataset.take(-1 if max_batches is None else max_batches).prefetch(2)
      batches = list(iterator.arrays(dataset))
    if not batches:
      raise UserError(
        f"the split 'validation' of {', '.join(absent or names)} has no example. Give the corpus "
        "validation data: VALIDATION_FILES or a larger VALIDATION_FRACTION for files of your own, "
        "VALIDATION_SPLIT for TFDS, or a 'validation' split of your SeqIO task."
      )
    share = self.batch_size // self._process_count
    own = slice(self._process_index * share, (self._process_index + 1) * share)
    return [
      {name: _fill(batch[name], self.batch_size)[own] for name in self.feature_shapes}
      for batch in batches
    ]

  def decode(self, ids: Sequence[int]) -> str:
    """The text of a model's ids, special pieces and sentinels visible, padding left out."""
    own = model_ids.from_model(np.asarray(ids), self.vocabulary)
    return token_text.decode_visible(self.vocabulary, own)

  def identity(self) -> dict[str, Any]:
    """What makes the data the same data: a run may continue only where this has not changed."""
    return {
      **self._source,
      "vocabulary": vocabularies.identity(self.vocabulary),
      "architecture": self.pipeline.architecture,
      "feature_lengths": dict(self.pipeline.lengths),
      "pack": self.pipeline.pack,
      "shuffle_buffer_size": self.pipeline.shuffle_buffer_size,
      "batch_size": self.batch_size,
      "seed": self.seed,
      "streams": self.streams,
      "components": [
        {"name": task.name, "rate": rate}
        | (task.objective.identity() if hasattr(task, "objective") else {})
        | ({"packing": packing.DESCRIPTION} if self.pipeline.packs(task) else {})
        for task, rate in self.pipeline.parts
      ],
    }

  def check_not_empty(self) -> None:
    """UserError where an epoch of a stream of this process has nothing for a component."""
    for stream in self._owned():
      where = f" in data stream {stream} of {self.streams}" if self.streams > 1 else ""
      for index, (task, _) in enumerate(self.pipeline.parts):
        # In the order of the files, as the first that are shuffled wait for many.
        shard = (stream, self.streams)
        examples = self.pipeline.examples(
          index, "train", self.seed, training=False, shard=shard, shuffle=False
        )
        if not list(iterator.arrays(examples.take(1))):
          raise UserError(
            f"{task.name} gives no example{where}: its 'train' split has no document with enough "
            f"tokens for feature lengths {dict(self.pipeline.lengths)}. Check what CORPUS points "
            "to, shorten TASK_FEATURE_LENGTHS or lower DATA_STREAMS."
          )
        if isinstance(task, tasks.PretrainingTask):
          documents = functools.partial(task.token_documents, "train", shard)
          task.objective.check_documents(documents, f"the 'train' split{where}")

  def _owned(self) -> range:
    return iterator.owned(self._process_index, self._process_count, self.streams)


def _fill(rows: np.ndarray, count: int) -> np.ndarray:
  return np.pad(rows, [(0, count - len(rows))] + [(0, 0)] * (rows.ndim - 1))
