"""The documents of a corpus, in pieces of work that several workers read at once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

# A piece of work has about this many bytes of files: a restart repeats no more than the pieces that
# were not finished, and progress is shown by pieces.
_PIECE_BYTES = 32 * 2**20


class Document(NamedTuple):
  """A document to tokenise.

  Attributes:
    split: "train" or "validation".
    texts: its text, in several parts if it is very long, each of which is tokenised on its own.
    target: what is to be predicted for it.
    file: it came from.
    line: or number of the record, from 1; 0 where the file is one document.
    part: of a text that the corpus reads as several documents.
  """

  split: str
  texts: Sequence[bytes]
  target: bytes | None
  file: str
  line: int
  part: int = 0


class Piece(NamedTuple):
  """A piece of work: what `read` takes.

  Attributes:
    places: parts of the corpus, as it describes them.
    files: that they are in.
    size: in bytes, or 1 where it is not known.
  """

  places: tuple[Any, ...]
  files: tuple[str, ...]
  size: int


class Documents(Protocol):
  """The documents of a corpus; it can be pickled."""

  def pieces(self) -> list[Piece]:
    """Returns the pieces of work, which hold each document once, in a fixed order."""
    ...

  def read(self, piece: Piece) -> Iterator[Document]:
    """Yields the documents of a piece."""
    ...


def of(corpus: Any) -> Documents:
  """Returns the documents of a corpus: read by itself, or through its SeqIO source."""
  return OfParts(corpus) if hasattr(corpus, "parts") else OfSource(corpus)


@dataclasses.dataclass(frozen=True)
class OfParts:
  """The documents of a corpora.base.DocumentCorpus, without TensorFlow."""

  corpus: Any

  def pieces(self) -> list[Piece]:
    found: list[tuple[Any, str, int]] = []
    for part in self.corpus.parts():
      found.append((part, part.file, max(1, part.size)))
    return list(_grouped(found))

  def read(self, piece: Piece) -> Iterator[Document]:
    from t5x_style.data.corpora.reading import text_reading

    for part in piece.places:
      for document in self.corpus.read(part):
        texts = text_reading.document_parts(document.text)
        yield Document(document.split, texts, document.target, document.file, document.line)


@dataclasses.dataclass(frozen=True)
class OfSource:
  """The documents of a corpus that has only a SeqIO source."""

  corpus: Any

  def pieces(self) -> list[Piece]:
    source = self.corpus.source()
    found: list[tuple[Any, str, int]] = []
    for split in source.splits:
      shards = [os.fsdecode(name) for name in source.list_shards(split)]
      for number, file in enumerate(shards):
        size = os.path.getsize(file) if os.path.isfile(file) else 1
        found.append(((split, number, len(shards), file), file, size))
    return list(_grouped(found))

  def read(self, piece: Piece) -> Iterator[Document]:
    import seqio

    source = self.corpus.source()
    for split, number, count, file in piece.places:
      shard = seqio.ShardInfo(number, count) if count > 1 else None
      dataset = source.get_dataset(split=split, shuffle=False, seed=0, shard_info=shard)
      yield from _joined(split, file, dataset.as_numpy_iterator())


def have_targets(documents: Documents, pieces: Sequence[Piece]) -> bool:
  """Returns whether documents have something to predict for each: whether the first one has."""
  for piece in pieces:
    for document in documents.read(piece):
      return document.target is not None
  return False


def _joined(split: str, file: str, examples: Iterator[Any]) -> Iterator[Document]:
  """Yields documents; consecutive examples with the same number "document" are one."""
  waiting: Document | None = None
  of = None
  for number, example in enumerate(examples, 1):
    same = "document" in example and of == example["document"]
    if waiting is not None and same:
      waiting = waiting._replace(texts=[*waiting.texts, example["text"]])
      continue
    if waiting is not None:
      yield waiting
    of = example.get("document")
    waiting = Document(split, [example["text"]], example.get("target"), file, number)
  if waiting is not None:
    yield waiting


def _grouped(parts: Sequence[tuple[Any, str, int]]) -> Iterator[Piece]:
  """Yields pieces of work: small parts together."""
  chosen: list[tuple[Any, str, int]] = []
  for part in parts:
    if chosen and sum(x[2] for x in chosen) + part[2] > _PIECE_BYTES:
      yield _piece(chosen)
      chosen = []
    chosen.append(part)
  if chosen:
    yield _piece(chosen)


def _piece(parts: Sequence[tuple[Any, str, int]]) -> Piece:
  files = tuple(dict.fromkeys(file for _, file, _ in parts))
  return Piece(tuple(place for place, _, _ in parts), files, sum(size for *_, size in parts))
