"""The data of a run: a corpus, a vocabulary and an objective become batches of one process."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from t5x_style.architectures import ARCHITECTURES
from t5x_style.codecs import vocabulary_folder
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.data import (
  corpus_mixture,
  iterator,
  model_ids,
  packing,
  pipeline,
  skip_counts,
  sources,
  tasks,
  text_samples,
)
from t5x_style.data.corpora.base import Corpus
from t5x_style.data.corpora.reading.known_files import KnownFiles
from t5x_style.data.objectives.base import Objective
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers import token_text, vocabularies, vocabulary_coverage
from t5x_style.data.tokenizers.base import codec_of, name_of
from t5x_style.data.tokenizers.vocabulary import Vocabulary
from t5x_style.errors import UserError
from t5x_style.setting_types import FractionBelowOne, PositiveInt, Text

_EVALUATION_SEED = 0


def load(
  architecture: str,
  batch_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
  *,
  corpus: Corpus | None = None,
  replay_corpus: Corpus | None = None,
  replay_share: FractionBelowOne = 0.05,
  vocabulary: Vocabulary | None = None,
  objective: Objective | None = None,
  feature_lengths: Mapping[str, PositiveInt] | None = None,
  mixture_or_task_name: Text | None = None,
  mixture_or_task_module: Text | None = None,
  cross_documents: bool | None = None,
  pack: bool = True,
  streams: PositiveInt = 1,
  shuffle_buffer_size: PositiveInt = 1024,
) -> Dataset:
  """Opens the data of a run; all mistakes in its settings raise here, before anything is compiled.

  Args:
    architecture: of the model: "encoder_decoder", "decoder_only" or "encoder_only".
    batch_size: global batch in rows, a multiple of `process_count` and of `streams`.
    seed: of the order and the noise; the batches are a function of it and the data.
    process_index, process_count: this process gets its share of the rows of each batch.
    corpus, vocabulary, objective: what is trained on, composed into a SeqIO task. A corpora.Mixture
      is several corpora in one.
    replay_corpus: the corpus of an earlier training, which continues on `corpus`: batches have rows
      of both, and an evaluation has as many batches of each (t5x_style.data.corpus_mixture).
    replay_share: the share of the rows that come from replay_corpus.
    feature_lengths: TASK_FEATURE_LENGTHS in tokens; the objective computes those left out.
    mixture_or_task_name: a registered SeqIO task or mixture instead of corpus and objective.
    mixture_or_task_module: is imported first, to register it.
    cross_documents: whether the tokens of a document see other documents of their row; None leaves
      it to the objective. Examples of the user's own tasks never see each other.
    pack: whether the examples of such a task share rows, and those of an objective that keeps
      documents apart in this way (t5x_style.data.objectives.base.Apart).
    streams: fixed shards of the data. The batches depend on it, not on the number of processes;
      with several streams each process reads only the part of the data that its rows come from.
    shuffle_buffer_size: examples of a stream held back to shuffle them.

  Raises:
    UserError: a setting cannot work, or the data has no example.
  """
  _check_sizes(architecture, batch_size, streams, process_count)
  if process_index == 0:
    _warn_of_repeated_work(streams, process_count)
  if mixture_or_task_name:
    corpus_mixture.check_absent(replay_corpus, mixture_or_task_name)
    source = sources.of_task(
      mixture_or_task_name, mixture_or_task_module, architecture, feature_lengths
    )
  else:
    replayed = None if replay_corpus is None else corpus_mixture.Replay(replay_corpus, replay_share)
    source = sources.of_corpus(
      corpus, replayed, vocabulary, objective, architecture, feature_lengths, cross_documents
    )
  parts = tuple(tasks.parts(source.provider))
  batches = pipeline.Pipeline(parts, architecture, source.lengths, pack, shuffle_buffer_size)
  if source.unit == "tokens":
    batches = batches.by_tokens()
  process = (process_index, process_count)
  dataset = Dataset(
    source, batches, batch_size=batch_size, seed=seed, streams=streams, process=process
  )
  dataset.check_not_empty()
  if process_index == 0:
    _warn_of_unknown_text(dataset)
  return dataset


def _check_sizes(architecture: str, batch_size: int, streams: int, process_count: int) -> None:
  if architecture not in ARCHITECTURES:
    raise UserError(f"architecture {architecture!r} is none of {', '.join(ARCHITECTURES)}.")
  for count, what in ((process_count, "processes"), (streams, "data streams (DATA_STREAMS)")):
    if count < 1 or batch_size % count:
      raise UserError(f"BATCH_SIZE = {batch_size} does not divide into {count} {what}.")


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


class Dataset:
  """The data of a run as training uses it; implements training.dataset.Dataset.

  Attributes:
    name: of the objective, or of the user's own task or mixture.
    seed, streams: as given to `load`.
    pipeline: how the batches are made; its parts are the SeqIO tasks.
    vocabulary: of the targets.
    vocab_size: how many ids the model may get, extra ids included.
    special_ids: the model's ids of padding and of the end and the start of a sequence.
    feature_shapes: {feature: shape and dtype in the global batch}.
    max_targets: the most positions of a row that carry loss, or None if all may.
    token_bytes: int32 [V], the bytes of text that each id stands for; None if the bits per byte of
      the objectives are not comparable with others, or tokens do not keep the text.
    likelihoods: what the loss of each part of a mixture, or of the single task, measures.
    component_names: of a mixture's parts, () for a single task.
    label_names: of the classes, if the class of each row is all that is predicted; else ().
    exact_match: whether the targets of each example are an answer, right as a whole or not.
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
    self.name = source.name
    self.pipeline = pipeline_
    self.vocabulary = vocabulary = source.vocabulary
    self.vocab_size = model_ids.vocab_size(vocabulary)
    self.special_ids = model_ids.special_ids(vocabulary)
    self.batch_size = batch_size
    self.seed = seed
    self.streams = streams
    self._process_index, self._process_count = process
    self._source, self._corpora = source.identity, source.description

    self.component_names = tasks.component_names(pipeline_.parts)
    self.max_targets = self._max_targets()
    self.likelihoods = tuple(map(pipeline_.likelihood, (task for task, _ in pipeline_.parts)))
    own = any(not hasattr(task, "objective") for task, _ in pipeline_.parts)
    together = len(set(self.likelihoods)) == 1 and self.likelihoods[0].comparable and not own
    self.token_bytes = model_ids.token_bytes(vocabulary) if together else None
    objectives = [getattr(task, "objective", None) for task, _ in pipeline_.parts]
    self.label_names = self._label_names()
    self.exact_match = pipeline_.architecture != "encoder_only" and all(
      "inputs" in task.output_features if o is None else o.exact_match
      for (task, _), o in zip(pipeline_.parts, objectives, strict=True)
    )
    self._batches = {stream: self._stream(stream) for stream in self._owned()}
    spec = next(iter(self._batches.values())).element_spec
    self.feature_shapes = {
      name: jax.ShapeDtypeStruct((batch_size, *s.shape[1:]), s.dtype.as_numpy_dtype)
      for name, s in spec.items()
      if name != skip_counts.KEY
    }

  def _max_targets(self) -> int | None:
    """Returns the largest bound of the components; None if one has none."""
    lengths, architecture = self.pipeline.lengths, self.pipeline.architecture
    bounds = []
    for task, _ in self.pipeline.parts:
      objective = getattr(task, "objective", None)
      if objective is None:
        return None
      own = objective.own_lengths(lengths, architecture)
      bounds.append(objective.max_targets(own, architecture))
    return None if None in bounds else max(bounds)

  def _label_names(self) -> tuple[str, ...]:
    names = [
      getattr(getattr(t, "objective", None), "label_names", ()) for t, _ in self.pipeline.parts
    ]
    if len(names) > 1 and any(names):
      raise UserError(
        "OBJECTIVE 'classification' cannot be mixed with others: only the labels carry loss in it. "
        "Train one after the other, with INITIAL_CHECKPOINT_PATH."
      )
    return names[0]

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

    They are one pass at most; with several corpora, so many of each corpus. The last batch is
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

  def decode(self, ids: Sequence[int]) -> str:
    """Returns the text of a model's ids, with special tokens and sentinels, without padding."""
    own = model_ids.from_model(np.asarray(ids), self.vocabulary)
    return token_text.decode_visible(self.vocabulary, own)

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
