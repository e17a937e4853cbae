"""TokenCache and Split: the documents of a cache, read by index."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from t5x_style.codecs import vocabulary_folder
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.errors import UserError
from t5x_style.token_cache import manifest as manifests
from t5x_style.token_cache import record, verification
from t5x_style.token_cache.manifest import Manifest
from t5x_style.token_cache.shard import LINE, PLACE, START, TARGET, Shard


class Source(NamedTuple):
  """Where a document came from."""

  file: str
  line: int  # or record, from 1; 0 where the file is one document
  part: int  # of a text that was read as several documents, from 0


class TokenCache:
  """The documents of a corpus as tokens. Threads may share it, and it can be pickled.

  Attributes:
    folder: of the cache.
    manifest: what it holds.
    eos_id: the id that ends a document, in the ids of the tokens.
    targets: whether documents have targets.
  """

  def __init__(self, folder: Path, manifest: Manifest):
    """Opens the indices of all shards."""
    self.folder, self.manifest = folder, manifest
    self.eos_id: int = manifest.vocabulary["eos_id"]
    self.targets = manifest.targets
    self._splits = {name: self._split(name) for name in manifest.splits}

  def __reduce__(self):
    return TokenCache, (self.folder, self.manifest)

  @property
  def splits(self) -> tuple[str, ...]:
    """("train",) or ("train", "validation")."""
    return tuple(self._splits)

  def split(self, name: str) -> Split:
    """Returns a split.

    Raises:
      UserError: the cache has none of this name.
    """
    if name not in self._splits:
      raise UserError(f"the token cache {self.folder} has no split {name!r}; it has {self.splits}.")
    return self._splits[name]

  @functools.cached_property
  def codec(self) -> TextCodec:
    """The codec of its vocabulary; its ids are those that a model gets."""
    stored = vocabulary_folder.read(epath.Path(self.folder / vocabulary_folder.FOLDER))
    if stored is None:
      raise UserError(f"the token cache {self.folder} has no vocabulary; make it again.")
    return stored.codec

  @functools.cached_property
  def sources(self) -> list[str]:
    """The names of the files that documents came from, by their numbers."""
    return json.loads((self.folder / manifests.SOURCES).read_text())

  def check_vocabulary(self, identity: Mapping[str, Any]) -> None:
    """Checks that a run's vocabulary is that of the cache.

    Args:
      identity: of the run's vocabulary, as tokenizers.vocabularies.identity returns it. The name of
        its file may differ.

    Raises:
      UserError: its tokens are others.
    """
    here = {k: v for k, v in self.manifest.vocabulary["identity"].items() if k != "name"}
    given = json.loads(json.dumps({k: v for k, v in identity.items() if k != "name"}))
    different = sorted(k for k in here.keys() | given.keys() if here.get(k) != given.get(k))
    if different:
      raise UserError(
        f"VOCABULARY ({identity.get('name')}) is not the vocabulary that the token cache "
        f"{self.folder} was made with ({self.manifest.vocabulary['identity'].get('name')}): "
        + ", ".join(f"{k} is {given.get(k)!r}, there {here.get(k)!r}" for k in different)
        + ". Set VOCABULARY = None to use the cache's, or make a cache with yours: "
        "`python -m launch.cache`."
      )

  def _split(self, name: str) -> Split:
    facts, shards = self.manifest.vocabulary, []
    for shard in self.manifest.splits[name]:
      files = self.folder / shard.record_file.name, self.folder / shard.index_file.name
      dtype = record.token_dtype(facts["ids"])
      shards.append(Shard(*files, dtype, facts["eos_id"], self.targets))
    return Split(self, name, shards)


class Split:
  """The documents of a split, numbered from 0 in the order of the shards.

  The joined stream is all documents, each with an EOS after it, one after the other.

  Attributes:
    name: "train" or "validation".
    documents: how many there are.
    tokens_total: tokens of all documents, without EOS.
    joined_length: tokens of the joined stream.
  """

  def __init__(self, cache: TokenCache, name: str, shards: Sequence[Shard]):
    """Joins shards."""
    self._cache, self.name, self._shards = cache, name, list(shards)
    self._first = np.cumsum([0, *(shard.documents for shard in shards)])
    self._start = np.cumsum([0, *(shard.joined for shard in shards)])
    self.documents, self.joined_length = int(self._first[-1]), int(self._start[-1])
    self.tokens_total = self.joined_length - self.documents

  def __len__(self) -> int:
    return self.documents

  def lengths(self, first: int = 0, end: int | None = None) -> np.ndarray:
    """Returns the tokens of the documents from `first` to before `end`, int64 [n]."""
    return np.diff(self._column(START, self._start, first, end)) - 1

  def target_lengths(self, first: int = 0, end: int | None = None) -> np.ndarray:
    """Returns the tokens of the targets of the documents from `first` to before `end`, int64 [n].

    It is 0 where the documents of the cache have no targets.
    """
    before = np.cumsum([0, *(int(shard.index[TARGET, -1]) for shard in self._shards)])
    return np.diff(self._column(TARGET, before, first, end))

  def starts(self, documents: np.ndarray) -> np.ndarray:
    """Returns where documents start in the joined stream, int64 [n]; document N is its end."""
    documents = np.asarray(documents, np.int64)
    found = np.full(documents.shape, self.joined_length, np.int64)
    where = np.searchsorted(self._first, documents, "right") - 1
    for number in np.unique(where[where < len(self._shards)]).tolist():
      chosen = where == number
      inside = documents[chosen] - self._first[number]
      found[chosen] = self._start[number] + self._shards[number].index[START][inside]
    return found

  def _column(self, row: int, before: np.ndarray, first: int, end: int | None) -> np.ndarray:
    """Returns running sums of the index at documents `first` to `end`, both included.

    Args:
      row: of the index.
      before: the sums at the start of each shard, and at the end of all.
    """
    end = self.documents if end is None else end
    parts = []
    for number, shard in enumerate(self._shards):
      low, high = (x - int(self._first[number]) for x in (first, end))
      parts.append(
        shard.index[row, max(low, 0) : max(min(high, shard.documents), 0)] + before[number]
      )
    if end >= self.documents:
      return np.concatenate([*parts, before[-1:]])
    shard, inside = self._locate(end)
    return np.concatenate([*parts, [shard.index[row, inside] + before[self._shards.index(shard)]]])

  def document_at(self, positions: np.ndarray) -> np.ndarray:
    """Returns the document of each position of the joined stream, int64 [n].

    An EOS belongs to the document before it.
    """
    positions = np.asarray(positions, np.int64)
    where = np.searchsorted(self._start, positions, "right") - 1
    found = np.empty(positions.shape, np.int64)
    for number in np.unique(where).tolist():
      chosen = where == number
      inside = positions[chosen] - self._start[number]
      starts = self._shards[number].index[START]
      found[chosen] = self._first[number] + np.searchsorted(starts, inside, "right") - 1
    return found

  def tokens(self, document: int) -> np.ndarray:
    """Returns the tokens of a document without EOS, int32 [n]."""
    shard, inside = self._locate(document)
    return shard.tokens(inside)

  def target(self, document: int) -> str:
    """Returns the text that is to be predicted for a document."""
    return self._target(document).text

  def target_tokens(self, document: int) -> np.ndarray:
    """Returns the tokens of the target of a document, int32 [n]."""
    return self._target(document).tokens

  def source(self, document: int) -> Source:
    """Returns where a document came from."""
    shard, inside = self._locate(document)
    place = int(shard.index[PLACE, inside])
    file = self._cache.sources[place >> 32]
    return Source(file, int(shard.index[LINE, inside]), place & 0xFFFFFFFF)

  def tokens_between(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns a part of the joined stream: its tokens, int32 [n], and their documents, int64 [n].

    Raises:
      IndexError: 0 <= start < end <= joined_length does not hold.
    """
    if not 0 <= start < end <= self.joined_length:
      raise IndexError(f"{start} to {end} is outside of the {self.joined_length} joined tokens")
    first, last = (np.searchsorted(self._start, (start, end - 1), "right") - 1).tolist()
    parts = []
    for number in range(first, last + 1):
      shard, before = self._shards[number], int(self._start[number])
      low, high = max(start - before, 0), min(end - before, shard.joined)
      if high > low:
        tokens, documents = shard.tokens_between(low, high)
        parts.append((tokens, documents + self._first[number]))
    if len(parts) == 1:
      return parts[0]
    return np.concatenate([x for x, _ in parts]), np.concatenate([x for _, x in parts])

  def _target(self, document: int) -> record.Target:
    if not self._cache.targets:
      raise UserError(f"the documents of the token cache {self._cache.folder} have no targets.")
    shard, inside = self._locate(document)
    return shard.target(inside)

  def _locate(self, document: int) -> tuple[Shard, int]:
    """Returns the shard of a document, and its number there."""
    if not 0 <= document < self.documents:
      raise IndexError(f"document {document} of {self.documents}")
    number = int(np.searchsorted(self._first, document, "right")) - 1
    return self._shards[number], int(document - self._first[number])


def open_cache(path: str | os.PathLike[str]) -> TokenCache:
  """Opens a token cache.

  Raises:
    UserError: the folder is no token cache, an unfinished or a damaged one, or one that a later
      version of the package wrote.
  """
  if "://" in os.fspath(path):
    raise UserError(
      f"{path} is no local path, and a token cache is read by index from a local folder: copy it, "
      "or mount the bucket (gcsfuse, mountpoint-s3), and give that folder."
    )
  folder = Path(os.path.expanduser(path))
  manifest = manifests.read(folder)
  verification.check_samples(folder, manifest)
  return TokenCache(folder, manifest)
