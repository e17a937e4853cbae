"""manifest.json: what a token cache holds; it is written last, so a cache with it is complete."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from t5x_style.errors import UserError

FILE = "manifest.json"
SOURCES = "sources.json"
UNFINISHED = "unfinished"  # the folder of a cache that is being made
VERSION = 1
_FORMAT = "t5x_style token cache"


class FileFacts(NamedTuple):
  """A file of the cache.

  Attributes:
    name: below the folder of the cache.
    size: in bytes.
    sha256: of the whole file.
    sample: a checksum of its start, its middle and its end, which is quick to compute.
  """

  name: str
  size: int
  sha256: str
  sample: str


class ShardFacts(NamedTuple):
  """A shard: its name, its counts and its two files."""

  name: str
  documents: int
  tokens: int  # without EOS
  record_file: FileFacts
  index_file: FileFacts

  @classmethod
  def of_json(cls, found: Sequence[Any]) -> ShardFacts:
    """Reads what `json.dumps` wrote."""
    name, documents, tokens, records, index = found
    return cls(name, documents, tokens, FileFacts(*records), FileFacts(*index))


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What a cache holds.

  Attributes:
    corpus: {"name", "fingerprint"} of what was tokenised.
    vocabulary: {"identity": in the identity of a run, "ids": how many there are, "eos_id",
      "unknown_id" or None}, in the ids of the stored tokens: 0 is padding.
    targets: whether the documents have targets.
    options: what the cache was made with, e.g. {"deduplicate": True}.
    statistics: {split: counts}; see launch/caching/statistics.py.
    splits: {"train": its shards, in the order of their documents}.
    files: the other files of the folder.
  """

  corpus: Mapping[str, Any]
  vocabulary: Mapping[str, Any]
  targets: bool
  options: Mapping[str, Any]
  statistics: Mapping[str, Any]
  splits: Mapping[str, tuple[ShardFacts, ...]]
  files: tuple[FileFacts, ...] = ()

  @property
  def content(self) -> str:
    """A checksum of all documents, their order, their targets and their places."""
    digest = hashlib.sha256()
    for split, shards in sorted(self.splits.items()):
      for shard in shards:
        digest.update(f"{split} {shard.record_file.sha256} {shard.index_file.sha256}\n".encode())
    return digest.hexdigest()

  def every_file(self) -> Iterator[FileFacts]:
    """Yields all files of the cache but this one."""
    for shards in self.splits.values():
      for shard in shards:
        yield from (shard.record_file, shard.index_file)
    yield from self.files

  def write(self, folder: Path) -> None:
    """Writes the file; the folder must hold everything else already."""
    found = {"format": _FORMAT, "version": VERSION, **dataclasses.asdict(self)}
    text = json.dumps({**found, "checksum": _checksum(found)}, indent=1) + "\n"
    temporary = folder / f".{FILE}.tmp"
    temporary.write_text(text)
    temporary.replace(folder / FILE)


def read(folder: Path) -> Manifest:
  """Reads the manifest of a cache, without a look at its other files.

  Raises:
    UserError: there is none, the cache is unfinished, the file is damaged, or a later version of
      the package wrote it.
  """
  try:
    text = (folder / FILE).read_text()
  except (FileNotFoundError, NotADirectoryError) as error:
    raise UserError(_no_cache(folder)) from error
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"{folder / FILE} cannot be read ({error}); {_AGAIN}") from error
  try:
    found = json.loads(text)
    format_, version, checksum = found.pop("format"), found.pop("version"), found.pop("checksum")
  except (ValueError, KeyError, AttributeError, TypeError) as error:
    raise UserError(
      f"{folder / FILE} is damaged, or not that of a token cache ({error!r}); {_AGAIN}"
    ) from error
  if format_ != _FORMAT or not isinstance(version, int):
    raise UserError(f"{folder / FILE} is not that of a token cache: its format is {format_!r}.")
  if version > VERSION:
    raise UserError(
      f"the token cache {folder} has version {version} of the format, and this package reads up to "
      f"{VERSION}; update the package, or make the cache again with `python -m launch.cache`."
    )
  if checksum != _checksum({"format": format_, "version": version, **found}):
    raise UserError(f"{folder / FILE} has been changed since it was written; {_AGAIN}")
  return _of_json(found)


_AGAIN = "copy the cache again, or make it again with `python -m launch.cache`."


def _of_json(found: Mapping[str, Any]) -> Manifest:
  splits = {
    split: tuple(map(ShardFacts.of_json, shards)) for split, shards in found["splits"].items()
  }
  files = tuple(FileFacts(*facts) for facts in found["files"])
  return Manifest(**{**found, "splits": splits, "files": files})


def _checksum(found: Mapping[str, Any]) -> str:
  text = json.dumps(found, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _no_cache(folder: Path) -> str:
  """Says why a folder without a manifest cannot be read."""
  if not folder.exists():
    return f"there is no token cache {folder}; make it with `python -m launch.cache --to={folder}`."
  if not folder.is_dir():
    return f"{folder} is a file, and a token cache is a folder; give the folder that holds it."
  if (folder / UNFINISHED).is_dir():
    return (
      f"the token cache {folder} is not finished: the command that makes it was interrupted, or is "
      "still running. Start the same command again; it resumes."
    )
  present = sorted(path.name for path in folder.iterdir())
  shown = ", ".join(present[:6]) + (", ..." if len(present) > 6 else "")
  return (
    f"{folder} is no token cache: it has no {FILE}, only {shown or 'nothing'}. Give the folder "
    "that `python -m launch.cache --to=FOLDER` wrote."
  )
