"""Texts of corpora and SeqIO tasks as Python strings, to train and to measure vocabularies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import seqio

from t5x_style.data import iterator, tasks
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers import vocabulary_coverage
from t5x_style.errors import UserError


def of_source(source: seqio.DataSource, split: str, most_bytes: int | None = None) -> Iterator[str]:
  """Yields shuffled documents of a source of {"text": string}.

  Args:
    most_bytes: ends after about this many; None yields all documents.
  """
  return _decoded(source.get_dataset(split, shuffle=True, seed=0), ("text",), most_bytes)


def in_order(parts: Sequence[seqio.Task], split: str) -> Iterator[bytes]:
  """Yields the documents of a split in the order of the files, each as often as it is there.

  Args:
    parts: tasks of corpora; those of a mixture read the same corpus.
  """
  for source in {id(task.source): task.source for task in parts}.values():
    for document in source.get_dataset(split, shuffle=False).as_numpy_iterator():
      yield document["text"]


def of_task(task: seqio.Task, split: str, most_bytes: int | None = None) -> Iterator[str]:
  """Yields the texts that the tokeniser of a SeqIO task gets.

  Args:
    most_bytes: ends after about this many; None yields all texts.

  Raises:
    UserError: the task has no tokeniser.
  """
  return _decoded(*_untokenized(task, split, shuffle=True), most_bytes)


def first_of_tasks(parts: Sequence[seqio.Task]) -> list[str] | None:
  """Returns excerpts of the first training documents of tasks; None if a task is not of text."""
  sources: dict[int, tuple[tf.data.Dataset, Sequence[str]]] = {}
  for task in parts:
    try:
      if isinstance(task, tasks.PretrainingTask):  # The parts of a mixture read the same corpus.
        shuffle = isinstance(task.source, seqio.FileDataSource)
        documents = task.source.get_dataset("train", shuffle=shuffle, seed=0)
        # What a model is to answer has to be spelt, too.
        names = ("text", "target") if task.objective.target_is_text else ("text",)
        sources[id(task.source)] = documents, names
      else:
        sources[id(task)] = _untokenized(task, "train", shuffle=False)
    except ValueError:  # The task is not of text.
      return None
  limit = vocabulary_coverage.CHARACTERS // len(sources)
  return [text for source in sources.values() for text in _excerpts(*source, limit)]


def _untokenized(
  task: seqio.Task, split: str, *, shuffle: bool
) -> tuple[tf.data.Dataset, tuple[str, ...]]:
  """Returns the examples that the tokeniser of a SeqIO task gets, and the names of its texts.

  Raises:
    UserError: the task has no tokeniser.
  """
  steps = list(task.preprocessors)
  tokenizers = (seqio.preprocessors.tokenize, seqio.preprocessors.tokenize_and_append_eos)
  places = [i for i, s in enumerate(steps) if getattr(s, "func", s) in tokenizers]
  if not places:
    raise UserError(
      f"the task {task.name} has no step seqio.preprocessors.tokenize, before which its text could "
      "be taken; give the text itself with --input or --gin_file."
    )
  text = seqio.Feature(seqio.PassThroughVocabulary(0), add_eos=False, dtype=tf.string, rank=0)
  features = dict.fromkeys(task.output_features, text)
  before = task.replace(preprocessors=steps[: places[0]], output_features=features)
  dataset = before.get_dataset(None, split, shuffle=shuffle, seed=0, trim_output_features=False)
  return dataset, tuple(features)


def _decoded(
  dataset: tf.data.Dataset, features: Sequence[str], most_bytes: int | None
) -> Iterator[str]:
  size = 0
  for example in iterator.arrays(dataset):
    contents: Mapping[str, Any] = example  # a scalar string is bytes and not an array
    for content in (contents[name] for name in features if contents.get(name)):
      size += len(content)
      yield content.decode("utf-8", errors="replace")
    if most_bytes is not None and size >= most_bytes:
      return


def _excerpts(documents: tf.data.Dataset, features: Sequence[str], limit: int) -> Iterator[str]:
  """Yields excerpts of the first documents, about `limit` characters in total."""
  with contextlib.suppress(tf.errors.OpError):  # Training reads them again and raises the error.
    each = documents.as_numpy_iterator()
    texts = (document[name] for document in each for name in features if document.get(name))
    yield from vocabulary_coverage.excerpts(texts, limit)
