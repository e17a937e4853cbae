"""The pieces of all documents of a split, and which of them share rows, in files.

CACHE/plans/NAME/positions.int64   where each piece begins in the joined stream of the split
CACHE/plans/NAME/examples.int64    the pieces row by row, where pieces share rows
CACHE/plans/NAME/rows.int64        where the pieces of each row begin there, and where the last end
CACHE/plans/NAME/plan.json         what the files depend on; NAME is its checksum
A plan is made once, when it is first needed, and read by memory mapping. Where the folder of the
cache cannot be written, plans are in $T5X_STYLE_CACHE or the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from t5x_style.data.pieces import Cutting
from t5x_style.data.random_access import packing_plan
from t5x_style.errors import UserError
from t5x_style.token_cache import Split

_VERSION = 1  # Increase it when the same documents give another plan.
# Documents that are planned at once: it bounds the memory. Their last rows are not full.
_AT_ONCE = 2**20
_PROGRESS_SECONDS = 5.0


class Sharing(NamedTuple):
  """How pieces share rows.

  Attributes:
    needs: the room that pieces need at most: (tokens of each int64 [n], their documents int64 [n],
      ascending) -> int64 [n, sides].
    room: tokens of an empty row, for each side.
    facts: what `needs` depends on besides its arguments, as JSON values.
  """

  needs: Callable[[np.ndarray, np.ndarray], np.ndarray]
  room: tuple[int, ...]
  facts: Mapping[str, Any]


class Plan(NamedTuple):
  """The pieces of a split; memory-mapped.

  Attributes:
    positions: int64 [pieces].
    examples, rows: int64 [pieces] and [rows + 1]; None if each piece is a row.
    filled: the share of the room that the pieces need at most; None if each piece is a row.
  """

  positions: np.ndarray
  examples: np.ndarray | None
  rows: np.ndarray | None
  filled: float | None


def open_plan(
  cache_folder: Path, content: str, split: Split, cutting: Cutting, sharing: Sharing | None
) -> Plan:
  """Opens the plan of a split; makes it first if there is none.

  Args:
    cache_folder: of the token cache.
    content: a checksum of its documents.
    split, cutting: what is cut, and how.
    sharing: None if each piece is a row.

  Raises:
    UserError: it cannot be written.
  """
  facts = {
    "version": _VERSION,
    "content": content,
    "split": split.name,
    "cutting": [cutting.kind, cutting.length, cutting.shortest],
    "sharing": sharing and {"room": list(sharing.room), **sharing.facts},
  }
  text = json.dumps(facts, sort_keys=True)
  name = hashlib.sha256(text.encode()).hexdigest()[:16]
  folders = [root / "plans" / name for root in (cache_folder, _own_folder())]
  for folder in folders:
    if (folder / "plan.json").exists():
      return _opened(folder, shared=sharing is not None)
  failure: OSError | None = None
  for folder in folders:
    try:
      _make(folder, text, split, cutting, sharing)
      return _opened(folder, shared=sharing is not None)
    except OSError as error:
      failure = failure or error
  raise UserError(
    f"the plan of which examples share rows cannot be written to {folders[0]} ({failure}), nor "
    f"to {folders[1]}. Set the environment variable T5X_STYLE_CACHE to a folder with room that you "
    "may write to."
  )


def _own_folder() -> Path:
  if folder := os.environ.get("T5X_STYLE_CACHE"):
    return Path(os.path.expanduser(folder))
  return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "t5x_style"


def _opened(folder: Path, *, shared: bool) -> Plan:
  def mapped(name: str) -> np.ndarray:
    file = folder / f"{name}.int64"
    # An empty file cannot be mapped.
    return np.memmap(file, np.int64, "r") if file.stat().st_size else np.zeros(0, np.int64)

  if not shared:
    return Plan(mapped("positions"), None, None, None)
  filled = json.loads((folder / "filled.json").read_text())
  return Plan(mapped("positions"), mapped("examples"), mapped("rows"), filled)


def _make(
  folder: Path, facts: str, split: Split, cutting: Cutting, sharing: Sharing | None
) -> None:
  """Writes a plan to a temporary folder and renames that; another process may have been faster."""
  temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
  temporary.mkdir(parents=True)
  try:
    _write(temporary, split, cutting, sharing)
    (temporary / "plan.json").write_text(facts)
    try:
      temporary.rename(folder)
    except OSError:
      if not (folder / "plan.json").exists():
        raise
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _write(folder: Path, split: Split, cutting: Cutting, sharing: Sharing | None) -> None:
  names = ("positions",) if sharing is None else ("positions", "examples", "rows")
  files = {name: open(folder / f"{name}.int64", "wb") for name in names}
  progress = _Progress(split)
  pieces, used, rows = 0, np.zeros(0), 0
  try:
    if sharing is not None:
      used = np.zeros(len(sharing.room))
      np.zeros(1, np.int64).tofile(files["rows"])
    for first in range(0, len(split), _AT_ONCE):
      end = min(first + _AT_ONCE, len(split))
      lengths = split.lengths(first, end)
      of, starts = cutting.starts(lengths)
      tokens = cutting.ends(lengths[of], starts) - starts
      (split.starts(of + first) + starts).tofile(files["positions"])
      if sharing is not None and len(of):
        needs = sharing.needs(tokens, of + first)
        sizes, kinds, counts = np.unique(needs, axis=0, return_inverse=True, return_counts=True)
        found = packing_plan.patterns(sizes, counts, np.array(sharing.room))
        order, edges = packing_plan.assign(kinds.reshape(-1), found)
        (order + pieces).tofile(files["examples"])
        (edges[1:] + pieces).tofile(files["rows"])
        used += needs.sum(axis=0)
        rows += len(edges) - 1
      pieces += len(of)
      progress.show(end)
  finally:
    for file in files.values():
      file.close()
  if sharing is not None:
    filled = float(used.sum() / (max(rows, 1) * sum(sharing.room)))
    (folder / "filled.json").write_text(json.dumps(filled))


class _Progress:
  """Shows how far a plan is, if it takes long."""

  def __init__(self, split: Split):
    self._split, self._shown = split, time.monotonic()

  def show(self, documents: int) -> None:
    if time.monotonic() - self._shown > _PROGRESS_SECONDS:
      share = documents / len(self._split)
      print(f"planning the rows of {self._split.name!r}: {share:.0%}", file=sys.stderr, flush=True)
      self._shown = time.monotonic()
