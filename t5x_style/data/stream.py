"""The data of a run as a stream: SeqIO and TensorFlow read a corpus of texts."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import seqio
from etils import epath

from t5x_style.codecs import vocabulary_folder
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.data import (
  iterator,
  model_ids,
  packing,
  pipeline,
  run_facts,
  skip_counts,
  sources,
  tasks,
  text_samples,
)
from t5x_style.data.corpora.reading.known_files import KnownFiles
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers import token_ids, token_text, vocabularies, vocabulary_coverage
from t5x_style.data.tokenizers.base import codec_of, name_of
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.errors import UserError

_EVALUATION_SEED = 0


def open_stream(
  source: sources.Source,
  architecture: str,
  batch_size: int,
  seed: int,
  process: tuple[int, int],
  *,
  pack: bool,
  streams: int,
  shuffle_buffer_size: int,
) -> Dataset:
  """Opens the data of a run as a stream; the arguments are those of `t5x_style.data.loader.load`.

  Args:
    source: what the run trains on.
    process: index and count.

  Raises:
    UserError: a setting cannot work, or the data has no example.
  """
  first = process[0] == 0
  if first:
    _warn_of_repeated_work(streams, process[1])
  parts = tuple(tasks.parts(source.provider))
  batches = pipeline.Pipeline(parts, architecture, source.lengths, pack, shuffle_buffer_size)
  if source.unit == "tokens":
    batches = batches.by_tokens()
  dataset = Dataset(
    source, batches, batch_size=batch_size, seed=seed, streams=streams, process=process
  )
  dataset.check_not_empty()
  if first:
    _warn_of_unknown_text(dataset)
  return dataset


def _warn_of_repeated_work(streams: int, process_count: int) -> None:
  """Warns if several processes prepare the same rows."""
  if process_count > streams:
    warnings.warn(
      f"DATA_STREAMS = {streams} and {process_count} processes with rows of their own: each "
      "prepares more of every batch than it keeps. A new run may share the work with "
      f"DATA_STREAMS = {process_count}.",
      stacklevel=1,  # The caller may be gin, whose warnings are not shown.
    )


def _warn_of_unknown_text(dataset: Dataset) -> None:
  """Warns if the vocabulary does not cover much of the text."""
  if dataset.coverage and (text := dataset.coverage.warning(name_of(dataset.vocabulary))):
    warnings.warn(text, stacklevel=1)


class Dataset(run_facts.DatasetOfObjectives):
  """The data of a run as training uses it; implements training.dataset.Dataset.

  Attributes:
    seed, streams: as given to `open_stream`.
    pipeline: how the batches are made; its parts are the SeqIO tasks.
    vocabulary: of the targets.
    vocab_size: how many ids the model may get, extra ids included.
    special_ids: the model's ids of padding and of the end and the start of a sequence.
    feature_shapes: {feature: shape and dtype in the global batch}.
    token_bytes: int32 [V], the bytes of text that each id stands for; None if the bits per byte of
      the objectives are not comparable with others, or tokens do not keep the text.
  """

  def __init__(
    self,
    source: sources.Source,
    pipeline_: pipeline.Pipeline,
    *,
    batch_size: int,
    seed: int,
    streams: int,
    process: tuple[int, int],
  ):
    self.pipeline = pipeline_
    facts = run_facts.of(
      source.name,
      [self._part(task) for task, _ in pipeline_.parts],
      pipeline_.lengths,
      pipeline_.architecture,
    )
    super().__init__(facts)
    self.vocabulary = vocabulary = source.vocabulary
    self.vocab_size = model_ids.vocab_size(vocabulary)
    self.special_ids = model_ids.special_ids(vocabulary)
    self.batch_size = batch_size
    self.seed = seed
    self.streams = streams
    self._process_index, self._process_count = process
    self._source, self._corpora = source.identity, source.description

    self.token_bytes = model_ids.token_bytes(vocabulary) if facts.bytes_are_comparable else None
    self._batches = {stream: self._stream(stream) for stream in self._owned()}
    spec = next(iter(self._batches.values())).element_spec
    self.feature_shapes = {
      name: jax.ShapeDtypeStruct((batch_size, *s.shape[1:]), s.dtype.as_numpy_dtype)
      for name, s in spec.items()
      if name != skip_counts.KEY
    }

  def _part(self, task: seqio.Task) -> run_facts.Part:
    return run_facts.Part(
      getattr(task, "component", task.name),
      getattr(task, "objective", None),
      self.pipeline.likelihood(task),
      "inputs" in task.output_features,
    )

  def _stream(self, index: int) -> tf.data.Dataset:
    """Returns the training batches of one data stream, with the model's ids."""
    rows, shard = self.batch_size // self.streams, (index, self.streams)
    trained = self.pipeline.trained()
    batches = trained.batches("train", rows, self.seed, training=True, shard=shard)
    return model_ids.to_model(batches, self.vocabulary)

  @functools.cached_property
  def coverage(self) -> vocabulary_coverage.Coverage | None:
    """How much of the first documents the vocabulary covers; None if unknown."""
    if vocabulary_coverage.covers_everything(self.vocabulary):
      return vocabulary_coverage.measure(self.vocabulary, ())
    texts = text_samples.first_of_tasks([task for task, _ in self.pipeline.parts])
    return None if texts is None else vocabulary_coverage.measure(self.vocabulary, texts)

  def train(self) -> iterator.BatchIterator:
    """Returns a new iterator over the training batches, from their start."""
    running = {
      stream: iterator.Stream(iterator.with_options(batches.prefetch(2)))
      for stream, batches in self._batches.items()
    }
    rows = self.batch_size // self._process_count
    per_stream = self.batch_size // self.streams
    return iterator.BatchIterator(
      running,
      per_stream,
      self._process_index,
      rows,
      before_saving=self.check_files,
      epochs=lambda counts: self.pipeline.trained().epochs_read(counts, self.streams),
    )

  def evaluation(self, max_batches: int | None) -> list[iterator.Batch]:
    """Returns the first batches of the validation split, the same ones each time.

    They are one pass at most; with several corpora, this many of each corpus. The last batch is
    filled up with rows of zeros, which carry no weight. Every process computes all rows and returns
    its own.

    Raises:
      UserError: there is no validation split, or it has no example.
    """
    share = self.batch_size // self._process_count
    own = slice(self._process_index * share, (self._process_index + 1) * share)
    return [
      {name: _fill(batch[name], self.batch_size)[own] for name in self.feature_shapes}
      for corpus in self.pipeline.of_each_corpus()
      for batch in self._held_out(corpus, max_batches)
    ]

  def _held_out(self, corpus: pipeline.Pipeline, most: int | None) -> list[iterator.Batch]:
    """Returns the first batches of the validation split of one corpus; see `evaluation`."""
    names = [task.name for task, _ in corpus.parts]
    absent = [task.name for task, _ in corpus.parts if "validation" not in task.splits]
    batches = []
    if not absent:
      dataset = corpus.batches("validation", self.batch_size, _EVALUATION_SEED, training=False)
      dataset = model_ids.to_model(dataset, self.vocabulary)
      dataset = dataset.take(-1 if most is None else most).prefetch(2)
      batches = list(iterator.arrays(dataset))
    if not batches:
      raise UserError(
        f"the split 'validation' of {', '.join(absent or names)} has no example. Give the corpus "
        "validation data: VALIDATION_FILES or a larger VALIDATION_FRACTION for files of your own, "
        "VALIDATION_SPLIT for TFDS, or a 'validation' split of your SeqIO task."
      )
    return batches

  @property
  def feature_lengths(self) -> dict[str, int]:
    """The tokens of each task feature."""
    return dict(self.pipeline.lengths)

  @property
  def rates(self) -> dict[str, float]:
    """{component: its share of the rows, in any unit}."""
    if not self.component_names:
      return {self.name: 1.0}
    rates = (rate for _, rate in self.pipeline.parts)
    return dict(zip(self.component_names, rates, strict=True))

  def rows_of_component(self, index: int, rows: int) -> Iterator[iterator.Batch]:
    """Yields batches of rows of one component, before components are mixed, in training.

    The ids are those of `ids`; rows also have the features pipeline.NOT_FOR_MODEL.
    """
    task = self.pipeline.parts[index][0]
    if hasattr(task, "with_raw"):
      task = task.with_raw()
    single = dataclasses.replace(self.pipeline, parts=((task, 1.0),))
    shard = (0, self.streams)
    batches = single.batches("train", rows, self.seed, training=True, shard=shard)
    yield from iterator.arrays(batches.prefetch(2))

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of a model's ids, with special tokens and sentinels, without padding."""
    own = model_ids.from_model(np.asarray(ids), self.vocabulary)
    return token_text.decode_visible(self.vocabulary, own)

  @property
  def ids(self) -> TokenIds:
    """Returns the ids of the vocabulary; raises UserError if it is of a kind not known."""
    return token_ids.of(self.vocabulary)

  @property
  def codec(self) -> TextCodec:
    """Returns the codec of the vocabulary; raises UserError if it is of a kind not known."""
    return codec_of(self.vocabulary)

  def store_vocabulary(self, model_dir: epath.Path) -> None:
    """Writes MODEL_DIR/vocabulary, from which t5x_style.load reads the vocabulary of the model.

    Raises:
      UserError: the vocabulary is of a kind that is not known.
    """
    identity = vocabularies.identity(self.vocabulary)
    vocabulary_folder.write(model_dir / vocabulary_folder.FOLDER, self.codec, identity)

  @property
  def description(self) -> str:
    """Names the corpus, or the user's own task or mixture, and the objectives."""
    objectives = [
      task.objective.name if hasattr(task, "objective") else task.name
      for task, _ in self.pipeline.parts
    ]
    return f"{self._corpora}, {', '.join(dict.fromkeys(objectives))}"

  def identity(self) -> dict[str, Any]:
    """Returns what decides on the batches: a run resumes only if it is the same."""
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
        | ({"epochs": most} if (most := getattr(task, "most_epochs", None)) else {})
        | ({"start": start} if (start := getattr(task, "start", None)) is not None else {})
        for task, rate in self.pipeline.parts
      ],
    }

  def files(self) -> dict[str, list]:
    """Returns {file: [bytes, checksum]} of the corpus; {} where they are not known, or many."""
    return {k: v for known in self._known("known_files") for k, v in known.listing.items()}

  def check_files(self) -> None:
    """Warns of files of the corpus that have changed since they were opened.

    Raises:
      UserError: a file that TensorFlow reads has changed; batches may hold other text by now.
    """
    for records in self._known("record_files"):
      records.check_all()
    if self._process_index == 0:
      for known in self._known("known_files"):
        known.warn_of_changes(
          "The run ends if it reads the file again, and cannot resume before the file is as it was."
        )

  def _known(self, attribute: str) -> list[KnownFiles]:
    sources = {id(task.source): task.source for task, _ in self.pipeline.parts}
    found = [getattr(source, attribute, None) for source in sources.values()]
    return [known for known in found if known]

  def check_not_empty(self) -> None:
    """Raises UserError if a component has no example in an epoch of a stream of this process."""
    for stream in self._owned():
      where = f" in data stream {stream} of {self.streams}" if self.streams > 1 else ""
      for index, (task, rate) in enumerate(self.pipeline.parts):
        if not rate:
          continue
        # In the order of the files: a shuffle would first wait for many examples.
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
          if self._process_index == 0:
            task.objective.check_texts(
              documents, self.pipeline.lengths, f"the 'train' split{where}"
            )

  def _owned(self) -> range:
    return iterator.owned(self._process_index, self._process_count, self.streams)


def _fill(rows: np.ndarray, count: int) -> np.ndarray:
  """[rows, ...] -> [count, ...], with zeros after the rows."""
  return np.pad(rows, [(0, count - len(rows))] + [(0, 0)] * (rows.ndim - 1))
