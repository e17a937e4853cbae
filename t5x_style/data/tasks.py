"""SeqIO tasks: those of a corpus and an objective, and the look-up of the user's own."""

from __future__ import annotations

import copy
import difflib
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio

from t5x_style.data import corpus_mixture, map_options, noise
from t5x_style.data.corpora.base import Corpus
from t5x_style.data.objectives.base import Objective
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers.base import ExternalVocabulary
from t5x_style.errors import UserError

# Documents are shuffled before they are cut, examples after it: one document is held back for so
# many examples. Documents are long, and a saved position contains what is held back.
_EXAMPLES_PER_DOCUMENT = 4


@map_options.as_written
def tokenize(documents: tf.data.Dataset, vocabulary: seqio.Vocabulary) -> tf.data.Dataset:
  """{"text": string} -> {"targets": int32 [n], "repaired": bool}; other features are kept.

  Bytes that are not UTF-8 become U+FFFD, since tokenisers refuse them; "repaired" says so.
  """
  if isinstance(vocabulary, ExternalVocabulary):
    return vocabulary.tokenize(documents)

  def encode(document):
    text = tf.strings.unicode_transcode(document["text"], "UTF-8", "UTF-8", errors="replace")
    kept = {k: v for k, v in document.items() if k != "text"}
    tokens = tf.cast(vocabulary.encode_tf(text), tf.int32)
    return {"targets": tokens, "repaired": text != document["text"], **kept}

  return documents.map(encode, **map_options.IN_ORDER)


def tokenize_targets(documents: tf.data.Dataset, vocabulary: seqio.Vocabulary) -> tf.data.Dataset:
  """Adds "target_tokens", int32 [n], the tokens of "target", to documents that are tokenised."""

  @map_options.as_written
  def as_text(document):
    kept = {k: v for k, v in document.items() if k not in ("targets", "target", "repaired")}
    return {**kept, "text": document["target"], "text_tokens": document["targets"]}

  @map_options.as_written
  def as_target(document):
    kept = {k: v for k, v in document.items() if k not in ("text_tokens", "targets", "repaired")}
    return {**kept, "targets": document["text_tokens"], "target_tokens": document["targets"]}

  return tokenize(documents.map(as_text), vocabulary).map(as_target)


class PretrainingTask(seqio.Task):
  """A SeqIO task of documents and an objective, whose noise differs in every epoch.

  Unlike in SeqIO's own Task, the preprocessors know the epoch, which is the second half of the
  feature "noise_seed", and the order of the documents is a function of (seed, epoch).
  """

  def __init__(
    self,
    name: str,
    source: seqio.DataSource,
    vocabulary: seqio.Vocabulary,
    objective: Objective,
    architecture: str,
    component: str | None = None,
    corpus: str = "",
    rate: float = 1.0,
    most_epochs: float | None = None,
    start: float | None = None,
  ):
    """Creates the task.

    Args:
      component: its name in the logs.
      corpus: which of the corpora of a run it reads: its label (corpus_mixture.Component).
      rate: of the objective among those that read this corpus.
      most_epochs: after this many, training examples end; None: never.
      start: how many epochs of the corpus other tasks read: corpus_mixture.Component.start.
    """
    self.component = component or name
    self.corpus, self.rate = corpus, rate
    self.most_epochs, self.start = most_epochs, start
    self._keep_raw = False
    self.objective = objective
    self.architecture = architecture
    self._vocabulary = vocabulary
    feature = seqio.Feature(vocabulary, add_eos=False, dtype=tf.int32)

    @map_options.as_written
    def corrupt(dataset: tf.data.Dataset, sequence_length: Mapping[str, int]) -> tf.data.Dataset:
      lengths = objective.own_lengths(sequence_length, architecture)
      return objective.preprocessor(vocabulary, lengths, architecture)(dataset)

    super().__init__(
      name,
      source=source,
      output_features=dict.fromkeys(objective.features(architecture), feature),
      preprocessors=[self._tokenize, corrupt],
      shuffle_buffer_size=1024,
    )

  def with_raw(self) -> PretrainingTask:
    """Returns the same task with examples that also hold their window; see windows.corrupted."""
    task = copy.copy(self)
    task._keep_raw = True
    return task

  @map_options.as_written
  def get_dataset(
    self,
    sequence_length: Mapping[str, int] | None = None,
    split: str = "train",
    use_cached: bool = False,
    shuffle: bool = True,
    shuffle_buffer_size: int | None = None,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    num_epochs: int | None = 1,
    trim_output_features: bool = True,
    try_in_mem_cache: bool = False,
  ) -> tf.data.Dataset:
    """Returns examples of `split`; windows may cross the end of an epoch. See seqio.Task."""
    del use_cached, trim_output_features, try_in_mem_cache
    seed = 0 if seed is None else seed
    most = num_epochs or self.most_epochs or np.iinfo(np.int64).max
    epochs = tf.data.Dataset.range(min(math.ceil(most), np.iinfo(np.int64).max))
    buffer = (shuffle_buffer_size or self.shuffle_buffer_size) if shuffle else 0

    @map_options.as_written
    def documents_of(epoch):
      documents = self._documents(split, buffer, seed, epoch, shard_info)
      # Of the last epoch, if it is only a part of one, some documents, chosen by their text.
      return (
        documents if most % 1 == 0 else documents.filter(_chosen(most, epoch, self.start or 0.0))
      )

    documents = epochs.flat_map(documents_of)
    examples = self.preprocess_postcache(documents, sequence_length=sequence_length, seed=seed)
    if buffer > 1:
      examples = examples.shuffle(buffer, seed, reshuffle_each_iteration=False)
    return examples

  def token_documents(self, split: str, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
    """Returns the tokenised documents of one epoch of `split`, in the order of the files."""
    shard_info = seqio.ShardInfo(*shard) if shard[1] > 1 else None
    documents = self._documents(split, 0, 0, tf.constant(0, tf.int64), shard_info)
    return self._tokenize(documents)

  @property
  def fills_rows(self) -> bool:
    """Whether each example is a row of its own, of a static length."""
    return not self.objective.examples_share_rows

  def _tokenize(self, documents: tf.data.Dataset) -> tf.data.Dataset:
    documents = tokenize(documents, self._vocabulary)
    if self.objective.target_is_text:
      documents = tokenize_targets(documents, self._vocabulary)
    return documents

  def _documents(
    self,
    split: str,
    buffer: int,
    seed: int,
    epoch: tf.Tensor,
    shard_info: seqio.ShardInfo | None,
  ) -> tf.data.Dataset:
    noise_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
    order = noise.salt(noise_seed)
    # Sources of files accept a tensor as the seed of their order; others (TFDS) may not.
    files = isinstance(self.source, seqio.FileDataSource)
    shuffle = buffer > 0 and files
    if shard_info is None or self._shards_evenly(split, shard_info.num_shards):
      documents = self.source.get_dataset(
        split=split, shuffle=shuffle, seed=order, shard_info=shard_info
      )
    else:
      documents = self.source.get_dataset(split=split, shuffle=shuffle, seed=order)
      documents = documents.shard(shard_info.num_shards, shard_info.index)
    if buffer:
      held = max(1, buffer // _EXAMPLES_PER_DOCUMENT)
      documents = documents.shuffle(held, order, reshuffle_each_iteration=False)
    extra = {"keep_raw": tf.constant(True)} if self._keep_raw else {}

    def read(document):
      names = ("text", "target", "document")
      kept = {name: document[name] for name in names if name in document}
      return {**kept, "noise_seed": noise_seed, **extra}

    return documents.map(read)

  def _shards_evenly(self, split: str, count: int) -> bool:
    """Returns whether shards of whole files are about equal; else every shard reads all files."""
    files = len(self.source.list_shards(split))
    return files % count == 0 or files >= 8 * count


def _chosen(
  epochs: float, epoch: tf.Tensor, start: float
) -> Callable[[Mapping[str, tf.Tensor]], tf.Tensor]:
  """Returns document -> whether it is read in an epoch of a corpus that is read `epochs` times.

  Documents have places on a circle. Those of a part of an epoch lie after `start`, where those of
  another task end, so that tasks which share the epochs of a corpus read different documents.
  """
  buckets = 2**20
  # The rounding keeps sums of shares, such as 0.9999999999, from leaving out a document.
  first, end = (math.ceil(round(x * buckets, 6)) for x in (start, start + epochs))

  @map_options.as_written
  def chosen(document):
    place = tf.strings.to_hash_bucket_fast(document["text"], buckets)
    return (place - first) % buckets < end - first - tf.cast(epoch, tf.int64) * buckets

  return chosen


def register(
  corpus: Corpus,
  vocabulary: seqio.Vocabulary,
  objective: Objective,
  architecture: str,
  replayed: corpus_mixture.Replay | None = None,
) -> seqio.Task | seqio.Mixture:
  """Registers <corpus>_<objective> with SeqIO: a task, or a Mixture if it has several components.

  A name that is registered already is replaced, for notebooks.

  Raises:
    UserError: the name is that of a task of the user's own.
  """
  name = f"{corpus.name}_{objective.name}"
  corpora = corpus_mixture.parts(corpus, replayed)
  opened = {part.label: part.corpus.source() for part in corpora}
  found = corpus_mixture.components(corpora, objective)
  rated = []
  for part in found:
    task = PretrainingTask(
      "_".join([name, *filter(None, part.name.split("/"))]),
      opened[part.label],
      vocabulary,
      part.objective,
      architecture,
      component=part.name,
      corpus=part.label,
      rate=part.rate,
      most_epochs=part.epochs,
      start=part.start,
    )
    _add(seqio.TaskRegistry, task.name, task)
    rated.append((task.name, part.share))
  if len(found) == 1:
    return task
  mixture = seqio.Mixture(name, rated)
  _add(seqio.MixtureRegistry, name, mixture)
  return mixture


def _add(registry: Any, name: str, provider: Any) -> None:
  if name in registry.names():
    present = registry.get(name)
    tasks = present.tasks if isinstance(present, seqio.Mixture) else [present]
    if not all(isinstance(task, PretrainingTask) for task in tasks):
      raise UserError(
        f"a SeqIO task named {name!r} is registered already; rename it, or run it itself with "
        f"MIXTURE_OR_TASK_NAME = {name!r}."
      )
    registry.remove(name)
  registry.add_provider(name, provider)


def lookup(name: str, module: str | None = None) -> seqio.Task | seqio.Mixture:
  """Returns the registered task or mixture `name`; imports `module` before, if there is one."""
  if module:
    try:
      importlib.import_module(module)
    except ImportError as error:
      raise UserError(
        f"MIXTURE_OR_TASK_MODULE = {module!r} cannot be imported ({error}); write the dotted name "
        "of the module that registers your tasks, and start from where Python finds it."
      ) from error
  names = sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()})
  if name in names:
    return seqio.get_mixture_or_task(name)
  near = difflib.get_close_matches(name, names, n=5, cutoff=0.0)
  listed = [*near, *(n for n in names if n not in near)]
  found = f"There are, nearest first: {', '.join(listed)}." if listed else "No task is."
  raise UserError(
    f"MIXTURE_OR_TASK_NAME = {name!r} is not registered. {found} Set MIXTURE_OR_TASK_MODULE to the "
    "module that registers it, or leave MIXTURE_OR_TASK_NAME at None to compose CORPUS and "
    "OBJECTIVE."
  )


def parts(provider: seqio.Task | seqio.Mixture) -> Sequence[tuple[seqio.Task, float]]:
  """Returns (task, rate) for each task of a mixture, or for the one task."""
  if isinstance(provider, seqio.Mixture):
    rated = [(task, provider.get_rate(task)) for task in provider.tasks]
  else:
    rated = [(provider, 1.0)]
  for task, rate in rated:
    unused = rate == 0 and getattr(task, "corpus", "")  # A corpus that is only evaluated on.
    if not ((math.isfinite(rate) and rate > 0) or unused):
      raise UserError(f"the mixing rate of {task.name} is {rate}; rates are positive numbers.")
  return rated


def lengths(
  provider: seqio.Task | seqio.Mixture,
  architecture: str,
  feature_lengths: Mapping[str, int] | None,
) -> dict[str, int]:
  """Returns the length of each feature of the task; raises UserError if missing or too short."""
  given = dict(feature_lengths or {})
  for task, _ in parts(provider):
    if isinstance(task, PretrainingTask):
      task.objective.check_architecture(architecture)
      for name, length in task.objective.own_lengths(given, architecture).items():
        given[name] = max(length, given.get(name, 0))
  needed = [name for name in ("inputs", "targets") if name in provider.output_features]
  if architecture != "decoder_only" and needed != ["inputs", "targets"]:
    raise UserError(
      f"{provider.name} has the features {sorted(provider.output_features)}, but {architecture} "
      "models need 'inputs' and 'targets'; use a decoder_only model or another task."
    )
  for name in needed:
    if given.get(name, 0) < 1:
      raise UserError(
        f"TASK_FEATURE_LENGTHS = {dict(feature_lengths or {})} has no length for the feature "
        f"{name!r} of {provider.name}; write TASK_FEATURE_LENGTHS = "
        f"{ {key: given.get(key, 512) for key in needed} }."
      )
  return {name: given[name] for name in needed}
