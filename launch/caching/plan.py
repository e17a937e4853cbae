"""The plan of a cache: its pieces of work and settings, in FOLDER/unfinished until it is done.

unfinished/plan.pickle             the Plan, for the workers
unfinished/settings.json           what must be the same for a start to resume
unfinished/work/000012.json        what a piece of work gave; it is written last
unfinished/work/000012-000-train.* its runs
unfinished/shards/NAME.json        the facts of a finished shard
unfinished/errors/*.json           what a worker could not do
unfinished/vocabulary/             of the tokens
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from t5x_style.codecs import vocabulary_folder
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.token_cache import record
from t5x_style.token_cache.manifest import UNFINISHED, ShardFacts

from ..process import whole_files
from .corpus_documents import Documents, Piece
from .runs import Run

# A shard has at most about this many bytes of tokens and this many documents.
_SHARD_BYTES = 256 * 2**20
_SHARD_DOCUMENTS = 500_000
# A worker holds about 300 bytes for each document of a shard, so requested shards have no more.
_MOST_DOCUMENTS = 10_000_000


@dataclasses.dataclass(frozen=True)
class Plan:
  """What the workers know.

  Attributes:
    documents: of the corpus.
    pieces: of the work.
    ids: how many ids the vocabulary has, in the numbers that are stored.
    own_ids: int32 [V], the stored number of each id of the codec; None if they are the same.
    unknown_id: the stored number of what the vocabulary cannot spell, or None.
    targets: whether the documents have targets.
    deduplicate: whether of equal documents only the first is kept.
  """

  documents: Documents
  pieces: Sequence[Piece]
  ids: int
  own_ids: np.ndarray | None
  unknown_id: int | None
  targets: bool
  deduplicate: bool

  @property
  def dtype(self) -> np.dtype:
    """The integers that tokens are stored in."""
    return record.token_dtype(self.ids)

  @functools.cached_property
  def files(self) -> list[str]:
    """The names of all files, in the order of their first piece."""
    return list(dict.fromkeys(file for piece in self.pieces for file in piece.files))


class Counted(NamedTuple):
  """How many documents something is true of, and where the first is."""

  documents: int
  first: str


class Done(NamedTuple):
  """What a piece of work gave: its runs, and {reason: documents} left out, or changed.

  Attributes:
    warnings: of the corpus while it was read.
  """

  runs: list[Run]
  left_out: dict[str, Counted]
  changed: dict[str, Counted]
  warnings: list[str]

  @classmethod
  def of_json(cls, text: str) -> Done:
    """Reads what `json.dumps` wrote."""
    found, *counts, warnings = json.loads(text)
    left_out, changed = ({k: Counted(*v) for k, v in count.items()} for count in counts)
    return cls([Run(*run) for run in found], left_out, changed, warnings)


class ShardPlan(NamedTuple):
  """A shard to write: the documents of a split whose hash is in a range."""

  name: str
  split: str
  low: int
  high: int


def folders(folder: Path) -> dict[str, Path]:
  """Returns the folders of an unfinished cache by their names."""
  base = folder / UNFINISHED
  return {name: base / name for name in ("work", "shards", "errors")}


def write(folder: Path, plan: Plan, codec: TextCodec, settings: Mapping[str, Any]) -> None:
  """Begins a cache; the settings are written last."""
  for path in folders(folder).values():
    path.mkdir(parents=True, exist_ok=True)
  base = folder / UNFINISHED
  vocabulary_folder.write(
    epath.Path(base / vocabulary_folder.FOLDER), codec, settings["vocabulary"]
  )
  whole_files.write(base / "plan.pickle", pickle.dumps(plan))
  whole_files.write(base / "settings.json", json.dumps(settings, indent=1))


def read_settings(folder: Path) -> dict[str, Any] | None:
  """Returns the settings of an unfinished cache; None if none was begun."""
  try:
    return json.loads((folder / UNFINISHED / "settings.json").read_text())
  except (FileNotFoundError, ValueError):
    return None


@functools.lru_cache(maxsize=1)
def read(folder: Path) -> Plan:
  """Reads the plan; a worker does it once."""
  return pickle.loads((folder / UNFINISHED / "plan.pickle").read_bytes())


def write_merging(folder: Path, done: Mapping[int, Done], requested: int | None) -> list[ShardPlan]:
  """Writes which shards there are to be, and the list of all runs, for those that merge them.

  Args:
    done: all pieces of work.
    requested: shards of "train"; None: by the number and the size of its documents.
  """
  runs = [run for number in sorted(done) for run in done[number].runs]
  planned = shards(runs, requested)
  whole_files.write(folder / UNFINISHED / "runs.json", json.dumps(runs))
  whole_files.write(folder / UNFINISHED / "shards.json", json.dumps(planned))
  return planned


@functools.lru_cache(maxsize=1)
def read_shards(folder: Path) -> list[ShardPlan]:
  """Reads which shards there are to be; a worker does it once."""
  return [ShardPlan(*x) for x in json.loads((folder / UNFINISHED / "shards.json").read_text())]


@functools.lru_cache(maxsize=1)
def read_runs(folder: Path) -> list[Run]:
  """Reads the list of all runs; a worker does it once."""
  return [Run(*run) for run in json.loads((folder / UNFINISHED / "runs.json").read_text())]


@functools.lru_cache(maxsize=1)
def codec(folder: Path) -> TextCodec:
  """Reads the codec of the vocabulary; a worker does it once."""
  stored = vocabulary_folder.read(epath.Path(folder / UNFINISHED / vocabulary_folder.FOLDER))
  assert stored is not None
  return stored.codec


def done_pieces(folder: Path, plan: Plan) -> dict[int, Done]:
  """Returns what the finished pieces of work gave, by their numbers."""
  found = {}
  for number in range(len(plan.pieces)):
    file = folders(folder)["work"] / f"{number:06d}.json"
    if file.exists():
      found[number] = Done.of_json(file.read_text())
  return found


def done_shards(folder: Path) -> dict[str, tuple[ShardFacts, dict[str, Any]]]:
  """Returns the facts and the statistics of the finished shards, by their names."""
  found = {}
  for file in sorted(folders(folder)["shards"].glob("*.json")):
    facts, statistics = json.loads(file.read_text())
    found[file.stem] = (ShardFacts.of_json(facts), statistics)
  return found


def shards(runs: Sequence[Run], requested: int | None) -> list[ShardPlan]:
  """Returns the shards to write; they depend on the documents only, not on the workers.

  Args:
    requested: shards of "train"; there are more where one would have over _MOST_DOCUMENTS.
  """
  found = []
  for split in ("train", "validation"):
    chosen = [run for run in runs if run.split == split]
    if not chosen:
      continue
    stored, documents = sum(r.stored_bytes for r in chosen), sum(r.documents for r in chosen)
    count = max(1, -(-stored // _SHARD_BYTES), -(-documents // _SHARD_DOCUMENTS))
    if requested is not None and split == "train":
      count = max(requested, -(-documents // _MOST_DOCUMENTS))
    bounds = [-(-(k * 2**64) // count) for k in range(count + 1)]
    found += [
      ShardPlan(f"{split}-{k:05d}-of-{count:05d}", split, bounds[k], bounds[k + 1])
      for k in range(count)
    ]
  return found


def total(counts: Iterable[Mapping[str, Counted]]) -> dict[str, Counted]:
  """Adds the counts of pieces of work, given in their order."""
  found: dict[str, Counted] = {}
  for each in counts:
    for reason, counted in each.items():
      before = found.get(reason, Counted(0, counted.first))
      found[reason] = before._replace(documents=before.documents + counted.documents)
  return found


def hash_of(text: bytes, target: bytes | None) -> tuple[int, int]:
  """Returns both halves of a hash of a document and its target, of 128 bits."""
  digest = hashlib.blake2b(text, digest_size=16)
  if target is not None:
    digest.update(b"\0" + target)
  both = digest.digest()
  return int.from_bytes(both[:8], "big"), int.from_bytes(both[8:], "big")
