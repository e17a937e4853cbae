"""A piece of work becomes runs: its documents are read, tokenised, and sorted by their hash.

The tokens are those of the codec, which also reads the text when a trained model is used. Those of
a run that streams its text are the same, except where SentencePiece knows two equally likely ways
to cut a text: see codecs/sentencepiece_codec.py.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from t5x_style.codecs.text_codec import TextCodec

from ..process import whole_files
from . import plan, runs
from .corpus_documents import Document
from .runs import Entry, Run

# A run holds about this many bytes of tokens and documents at most; it is in memory until written.
_RUN_BYTES = 64 * 2**20
_RUN_DOCUMENTS = 250_000
_MOST_WARNINGS = 100  # that are kept of one piece of work
_AT_ONCE = 256  # documents that are tokenised by one call
_AT_ONCE_BYTES = 2**20

NO_TOKENS = "have no tokens"
NO_TARGET = "have no target, and others have"
REPAIRED = "have bytes that are not UTF-8, which are read as U+FFFD"


def tokenize(folder: Path, number: int) -> None:
  """Does piece `number` of the work, if it is not done.

  Raises:
    UserError: its documents cannot be read.
  """
  done = plan.folders(folder)["work"] / f"{number:06d}.json"
  if done.exists():
    return
  work = _Work(folder, number)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", UserWarning)
    work.do()
  said = list(dict.fromkeys(str(warning.message) for warning in caught))
  found = plan.Done(work.runs, work.left_out, work.changed, said[:_MOST_WARNINGS])
  whole_files.write(done, json.dumps(found))


class _Work:
  """One piece of work, while it is done."""

  def __init__(self, folder: Path, number: int):
    self._folder, self._number = plan.folders(folder)["work"], number
    self._plan, self._codec = plan.read(folder), plan.codec(folder)
    self._encode = encoder(self._codec)
    self._numbers = {file: number for number, file in enumerate(self._plan.files)}
    self._entries: dict[str, list[Entry]] = {}
    self._held = 0
    self.runs: list[Run] = []
    self.left_out: dict[str, plan.Counted] = {}
    self.changed: dict[str, plan.Counted] = {}

  def do(self) -> None:
    piece = self._plan.pieces[self._number]
    for batch in _batches(self._documents(self._plan.documents.read(piece))):
      self._add(batch)
      held = sum(map(len, self._entries.values()))
      if self._held > _RUN_BYTES or held > _RUN_DOCUMENTS:
        self._write()
    self._write()

  def _documents(self, found: Iterable[Document]) -> Iterator[Document]:
    """Yields the documents, all with a target or all without; counts those that lack one."""
    for document in found:
      if not self._plan.targets:
        yield document._replace(target=None)
      elif document.target is None:
        _count(self.left_out, NO_TARGET, document)
      else:
        yield document

  def _add(self, documents: Sequence[Document]) -> None:
    """Tokenises documents."""
    texts = [[self._decoded(text, x) for text in x.texts] for x in documents]
    rows = iter(self._tokens([text for each in texts for text in each]))
    targets = [x.target for x in documents if x.target is not None]
    target_rows = iter(self._tokens([x.decode(errors="replace") for x in targets]))
    for document, parts in zip(documents, texts, strict=True):
      tokens = np.concatenate([next(rows) for _ in parts])
      target = None if document.target is None else next(target_rows)
      if not len(tokens):
        _count(self.left_out, NO_TOKENS, document)
        continue
      unknown = self._plan.unknown_id
      text = b"".join(document.texts)
      entry = Entry(
        *plan.hash_of(text, document.target),
        self._numbers[document.file],
        document.line,
        document.part,
        tokens,
        target,
        document.target or b"",
        len(text),
        0 if unknown is None else int((tokens == unknown).sum()),
      )
      self._entries.setdefault(document.split, []).append(entry)
      self._held += tokens.nbytes

  def _decoded(self, text: bytes, document: Document) -> str:
    try:
      return text.decode()
    except UnicodeDecodeError:
      _count(self.changed, REPAIRED, document)
      return text.decode(errors="replace")

  def _tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
    rows = self._encode(texts)
    if self._plan.own_ids is not None:
      rows = [self._plan.own_ids[row] for row in rows]
    return [row.astype(self._plan.dtype) for row in rows]

  def _write(self) -> None:
    for split, entries in self._entries.items():
      name = f"{self._number:06d}-{len(self.runs):03d}-{split}"
      self.runs.append(runs.write(self._folder, name, split, entries))
    self._entries, self._held = {}, 0


def encoder(codec: TextCodec) -> Callable[[Sequence[str]], list[np.ndarray]]:
  """Returns a function from texts to the ids of each, integers [n]."""
  if together := getattr(codec, "encode_batch", None):
    return together
  return lambda texts: [np.array(codec.encode(text), np.int32) for text in texts]


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
  """Yields documents in lists of many short ones or few long ones."""
  batch: list[Document] = []
  size = 0
  for document in documents:
    batch.append(document)
    size += sum(map(len, document.texts))
    if len(batch) == _AT_ONCE or size > _AT_ONCE_BYTES:
      yield batch
      batch, size = [], 0
  if batch:
    yield batch


def _count(counts: dict[str, plan.Counted], reason: str, document: Document) -> None:
  place = f"{document.file}:{document.line}" if document.line else document.file
  before = counts.get(reason) or plan.Counted(0, place)
  counts[reason] = before._replace(documents=before.documents + 1)
