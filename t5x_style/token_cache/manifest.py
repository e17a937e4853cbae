"""manifest.json: what a token cache holds, written when it is complete."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from t5x_style.errors import UserError

FILE = "manifest.json"
SOURCES = "sources.json"
VERSION = 1


class FileFacts(NamedTuple):
  """A file of the cache."""

  name: str
  size: int  # bytes
  sha256: str


class ShardFacts(NamedTuple):
  """A shard: its name, its counts and its two files."""

  name: str
  documents: int
  tokens: int  # without EOS
  records: FileFacts
  index: FileFacts


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What a cache holds.

  Attributes:
    corpus: {"name", "fingerprint"} of what was tokenised.
    vocabulary: {"identity": of the run, "ids": how many, "eos_id", "unknown_id" or None}.
    targets: whether the documents have targets.
    options: what the cache was made with, e.g. {"deduplicate": True}.
    statistics: {split: counts}.
    splits: {"train": its shards, in the order of their documents}.
    files: the other files of the folder.
    version: of the format.
  """

  corpus: Mapping[str, Any]
  vocabulary: Mapping[str, Any]
  targets: bool
  options: Mapping[str, Any]
  statistics: Mapping[str, Any]
  splits: Mapping[str, tuple[ShardFacts, ...]]
  files: tuple[FileFacts, ...] = ()
  version: int = VERSION

  @property
  def content(self) -> str:
    """A checksum of all documents, their order and their targets."""
    digest = hashlib.sha256()
    for split, shards in sorted(self.splits.items()):
      for shard in shards:
        digest.update(f"{split} {shard.records.sha256} {shard.index.sha256}\n".encode())
    return digest.hexdigest()

  def write(self, folder: Path) -> None:
    """Writes the file; the folder must hold everything else already."""
    text = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
    temporary = folder / f".{FILE}.tmp"
    temporary.write_text(text)
    temporary.replace(folder / FILE)


def read(folder: Path) -> Manifest:
  """Reads the manifest of a cache.

  Raises:
    UserError: there is none, it is damaged, or a later version of the package wrote it.
  """
  found = json.loads((folder / FILE).read_text())
  if found["version"] != VERSION:
    raise UserError(f"{folder} has the format {found['version']} of token caches.")
  splits = {
    split: tuple(
      ShardFacts(name, documents, tokens, FileFacts(*records), FileFacts(*index))
      for name, documents, tokens, records, index in shards
    )
    for split, shards in found.pop("splits").items()
  }
  files = tuple(FileFacts(*facts) for facts in found.pop("files"))
  return Manifest(**found, splits=splits, files=files)
