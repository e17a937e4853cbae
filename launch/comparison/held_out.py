"""Passages from the held-out text of runs, which fit the rows and vocabularies of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from t5x_style.codecs.text_codec import TextCodec
from t5x_style.errors import UserError

from . import passages
from .passages import Passage

# What a model may read beside the text: a start token, a mode token, sentinels, [CLS], EOS.
_AROUND = 6


def cut(datasets: Sequence[Any], *, count: int, passage_bytes: int, seed: int) -> list[Passage]:
  """Cuts passages out of the held-out text, which all candidates of a comparison share.

  Args:
    datasets: of the run of each candidate; the text is that of the first one.
    count, passage_bytes, seed: as of passages.cut.

  Raises:
    UserError: as `check`, or there is too little text.
  """
  check(datasets)
  return passages.cut(
    _texts(datasets[0]),
    _different([dataset.codec for dataset in datasets]),
    row_tokens=min(row_tokens(dataset) for dataset in datasets),
    count=count,
    passage_bytes=passage_bytes,
    seed=seed,
  )


def check(datasets: Sequence[Any]) -> None:
  """Raises UserError if a dataset is not of text, or the first one holds nothing out."""
  from t5x_style.data import tasks

  for dataset in datasets:
    if _of_caches(dataset):
      continue
    parts = [task for task, _ in getattr(dataset, "pipeline", _NoPipeline).parts]
    if not parts or not all(isinstance(task, tasks.PretrainingTask) for task in parts):
      raise UserError(
        "Models are judged on passages of a corpus, and the data of a candidate is a SeqIO task or "
        "random tokens: set CORPUS and OBJECTIVE, not MIXTURE_OR_TASK_NAME."
      )
  if _of_caches(datasets[0]):
    datasets[0].evaluation(1)  # It raises the error of a cache that holds nothing out.
    return
  parts = [task for task, _ in datasets[0].pipeline.parts]
  if any("validation" not in task.splits for task in parts):
    raise UserError(
      "The corpus has no held-out text, from which passages are cut: set VALIDATION_FILES, "
      "VALIDATION_FRACTION or VALIDATION_SPLIT."
    )


def _texts(dataset: Any) -> Iterator[str]:
  """Yields the held-out documents of a dataset; those of a token cache as their tokens say."""
  if _of_caches(dataset):
    yield from dataset.held_out_texts()
    return

  from t5x_style.data import text_samples

  parts = [task for task, _ in dataset.pipeline.parts]
  for document in text_samples.in_order(parts, "validation"):
    yield document.decode(errors="replace")


def _of_caches(dataset: Any) -> bool:
  return hasattr(dataset, "held_out_texts")


def corpora(identity: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
  """Returns what identifies the text of a dataset: {"corpus": ...}, or a part for each token cache.

  Args:
    identity: of the dataset. Every part has "name".
  """
  if "token_caches" in identity:
    return identity["token_caches"]
  return {"corpus": identity["corpus"]} if "corpus" in identity else {}


def row_tokens(dataset: Any) -> int:
  """Returns how many tokens of text fit into a row: what one side of the model reads at most."""
  return max(dataset.feature_lengths.values()) - _AROUND


class _NoPipeline:
  """Stands for the pipeline of random batches."""

  parts = ()


def _different(codecs: Sequence[TextCodec]) -> list[TextCodec]:
  """Returns the codecs of different vocabularies, in order."""
  found: dict[str, TextCodec] = {}
  for codec in codecs:
    file = codec.file()
    found.setdefault(repr((codec.kind, dict(codec.settings()), file and hash(file[1]))), codec)
  return list(found.values())
