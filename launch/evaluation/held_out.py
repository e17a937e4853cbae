"""The text that checkpoints are measured on: of a corpus, or a file."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from t5x_style.errors import UserError

from ..process.errors import ConfigurationError
from . import compressors

if TYPE_CHECKING:
  import seqio

  from t5x_style.training.train_config import TrainConfig


@dataclasses.dataclass(frozen=True)
class TextFile:
  """A corpus of one file of text, all of it held out."""

  file: str
  name: str = "text"

  def source(self) -> seqio.DataSource:
    from t5x_style.data.corpora.reading import text_checks, text_sources

    warnings = text_checks.FileWarnings()
    text_checks.check_files([self.file], warnings)
    # A dataset opens its training split, too; nothing is trained here.
    files = {split: [self.file] for split in ("train", "validation")}
    return text_sources.WholeFiles(files, warnings)

  def parts(self) -> list[bytes]:
    """Returns the text in parts of about a megabyte."""
    from t5x_style.data.corpora.reading import text_checks, text_reading

    text_checks.check_files([self.file], text_checks.FileWarnings())
    with text_reading.open_text(self.file) as stream:
      return text_reading.document_parts(stream.read())

  def fingerprint(self) -> str:
    return hashlib.sha256(Path(self.file).read_bytes()).hexdigest()


def text_arguments(config: TrainConfig, file: str, corpus: Any, folder: Path) -> dict[str, Any]:
  """Returns the arguments of t5x_style.data.loader.load that replace the corpus by a file.

  Args:
    config: of the run.
    file: of text.
    corpus: of the run; where it is a token cache, the file becomes one.
    folder: where that cache is written.

  Raises:
    ConfigurationError: there is no such text, or the run reads no text.
  """
  path = Path(os.path.expanduser(file))
  if not path.is_file():
    what = "is a folder" if path.is_dir() else "does not exist"
    raise ConfigurationError(f"--text={file} {what}; give a file of text in UTF-8.")
  if path.stat().st_size == 0:
    raise ConfigurationError(f"--text={file} is empty; give a file of text in UTF-8.")
  function: Any = config.dataset
  while hasattr(function, "func") or hasattr(function, "__wrapped__"):
    function = getattr(function, "func", None) or function.__wrapped__
  if function.__module__ != "t5x_style.data.loader":
    raise ConfigurationError("--text: this run reads no text; leave it out.")

  from t5x_style.data import loader

  text: Any = TextFile(str(path))
  if loader.reads_caches(corpus):
    text = _cached(text, corpus, folder)
  return {"corpus": text, "replay_corpus": None, "mixture_or_task_name": None}


def _cached(text: TextFile, corpus: Any, folder: Path) -> Any:
  """Returns a token cache of a file, with the vocabulary of a run's cache, or of one of them."""
  from t5x_style.data import corpora
  from t5x_style.data.tokenizers import token_ids
  from t5x_style.token_cache.shard_writer import Stored

  from ..caching import small, tokenize

  cache = corpus if isinstance(corpus, corpora.TokenCache) else next(iter(corpus.corpora.values()))
  codec = cache.opened.codec
  encode, ids = tokenize.encoder(codec), token_ids.of_codec(codec)
  parts = encode([part.decode(errors="replace") for part in text.parts()])
  document = Stored(ids.own(np.concatenate(parts)).astype(np.int32), None, 0, 0)
  splits = {"train": [document], "validation": [document]}
  identity = cache.opened.manifest.vocabulary["identity"]
  small.write(folder, splits, codec, name=text.name, identity=identity, files=(text.file,))
  return corpora.TokenCache(str(folder))


def token_bytes(dataset: Any) -> np.ndarray | None:
  """Returns the bytes of text that each id stands for, int32 [V]; None if tokens do not keep it."""
  if not hasattr(dataset, "vocabulary"):
    return dataset.token_bytes

  from t5x_style.data import model_ids

  try:
    return model_ids.token_bytes(dataset.vocabulary)
  except UserError:  # A vocabulary of another library, whose pieces are not known.
    return None


def compressed(dataset: Any, text: str | None) -> compressors.Compressed | None:
  """Compresses the held-out text of a dataset; None if that is not a corpus of text as it was.

  Args:
    text: the file that replaces the corpus; its beginning is then not given.
  """
  if text and hasattr(dataset, "held_out_texts"):
    return compressors.compress(TextFile(text).parts(), ())
  if not hasattr(dataset, "pipeline"):
    return None

  from t5x_style.data import tasks, text_samples

  parts = [task for task, _ in dataset.pipeline.parts]
  if not all(isinstance(task, tasks.PretrainingTask) for task in parts):
    return None

  def documents(split: str) -> Iterator[bytes]:
    return text_samples.in_order(parts, split)

  return compressors.compress(documents("validation"), iter(()) if text else documents("train"))
