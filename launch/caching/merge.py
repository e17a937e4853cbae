"""The runs of all pieces of work become one shard: mixed, and without duplicates if requested."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t5x_style.data import noise
from t5x_style.token_cache import record, shard_writer
from t5x_style.token_cache.shard_writer import Stored

from ..process import whole_files
from . import plan, runs, statistics
from .plan import ShardPlan
from .runs import FILE, HIGH, LINE, LOW, PART, OpenRun


def merge(folder: Path, shard: ShardPlan) -> None:
  """Writes a shard, if it is not written."""
  done = plan.folders(folder)["shards"] / f"{shard.name}.json"
  if done.exists():
    return
  merged = _Merged(folder, shard)
  facts = shard_writer.write(folder, shard.name, merged.documents(), merged.plan.dtype)
  whole_files.write(done, json.dumps([facts, merged.counts()]))


class _Merged:
  """The documents of one shard in their order.

  Attributes:
    keys: uint64 [fields, N], as those of runs; lines are counted in the files.
  """

  def __init__(self, folder: Path, shard: ShardPlan):
    self.plan = plan.read(folder)
    self._runs, self.keys, of = _read(folder, shard, shard.split)
    order = np.lexsort([self.keys[x] for x in (PART, LINE, FILE, LOW, HIGH)])
    self.duplicates = self.held_out = 0
    if self.plan.deduplicate:
      order = self._without_duplicates(order)
      if shard.split != "validation":
        held_out = _read(folder, shard, "validation")[1]
        order = self._without(order, held_out)
    order = order[np.argsort(_mixed(self.keys[:, order]), kind="stable")]
    self.keys, self._of = self.keys[:, order], of[order]

  def _without_duplicates(self, order: np.ndarray) -> np.ndarray:
    """Keeps the first of equal documents: the one of the first file and line."""
    hashes = self.keys[HIGH][order], self.keys[LOW][order]
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(hashes[0]) != 0) | (np.diff(hashes[1]) != 0)
    self.duplicates = int((~first).sum())
    return order[first]

  def _without(self, order: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Leaves out documents that are in `keys`, too."""
    known = set(zip(keys[HIGH].tolist(), keys[LOW].tolist(), strict=True))
    if not known:
      return order
    hashes = zip(self.keys[HIGH][order].tolist(), self.keys[LOW][order].tolist(), strict=True)
    kept = np.array([x not in known for x in hashes], bool)
    self.held_out = int((~kept).sum())
    return order[kept]

  def documents(self) -> Iterator[Stored]:
    """Yields the documents to write."""
    dtype = self.plan.dtype
    for key, run in zip(self.keys.T, self._of.tolist(), strict=True):
      _, _, *place, offset, tokens, target_tokens, target_bytes, _, _ = key.tolist()
      sizes = tokens * dtype.itemsize, target_tokens * dtype.itemsize
      content = self._runs[run].content(offset, sum(sizes) + target_bytes)
      target = None
      if self.plan.targets:
        found = np.frombuffer(content[sizes[0] : sum(sizes)], dtype)
        target = record.Target(bytes(content[sum(sizes) :]).decode(errors="replace"), found)
      yield Stored(np.frombuffer(content[: sizes[0]], dtype), target, *place)

  def counts(self) -> dict[str, Any]:
    """Returns the statistics of the shard."""
    text_bytes, unknown = (int(self.keys[x].sum()) for x in (runs.TEXT_BYTES, runs.UNKNOWN))
    found = statistics.of_documents(self.keys[runs.TOKENS], text_bytes, unknown)
    return {**found, "duplicates": self.duplicates, "also_held_out": self.held_out}


def _mixed(keys: np.ndarray) -> np.ndarray:
  """Returns numbers that order documents at random: hashes of their text and their place.

  Copies of a text lie apart so, where a hash of the text alone would make them neighbours: what is
  masked in one would then be read in the other, in the same window of the joined stream.

  Args:
    keys: uint64 [fields, N].

  Returns:
    uint64 [N]
  """
  mixed = np.zeros(keys.shape[1], np.uint64)
  for row in (HIGH, FILE, LINE, PART):
    mixed = noise.mix(mixed ^ keys[row])
  return mixed


def _read(
  folder: Path, shard: ShardPlan, split: str
) -> tuple[Sequence[OpenRun], np.ndarray, np.ndarray]:
  """Reads the keys of the documents of a split in the range of a shard.

  Returns:
    the runs, the keys [fields, N], and the number of the run of each document.
  """
  work = plan.folders(folder)["work"]
  opened = [
    OpenRun(work, run, shard.low, shard.high)
    for run in plan.read_runs(folder)
    if run.split == split
  ]
  counts = [run.keys.shape[1] for run in opened]
  keys = [np.zeros((runs.FIELDS, 0), np.uint64), *(run.keys for run in opened)]
  return opened, np.concatenate(keys, axis=1), np.repeat(np.arange(len(opened)), counts)
