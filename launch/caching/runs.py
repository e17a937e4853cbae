"""A run: tokenised documents of one split in the order of their hash, on disk.

Its keys are a uint64 array [FIELDS, N], memory-mapped; its content is the bytes of all documents:
tokens, then the target's tokens and its text. Runs are made by tokenize.py and read by merge.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Rows of the keys; the order of the documents of a run is that of the first five.
HIGH, LOW, FILE, LINE, PART, OFFSET, TOKENS, TARGET_TOKENS, TARGET_BYTES = range(9)
TEXT_BYTES, UNKNOWN = 9, 10
FIELDS = 11


class Entry(NamedTuple):
  """A tokenised document; the first fields are those of the keys."""

  high: int
  low: int
  file: int  # its number
  line: int
  part: int
  tokens: np.ndarray  # in the integers that the cache stores
  target_tokens: np.ndarray | None
  target: bytes
  text_bytes: int
  unknown: int  # tokens that stand for what the vocabulary cannot spell


class Run(NamedTuple):
  """A run on disk: what a manifest of a piece of work says of it."""

  name: str
  split: str
  documents: int
  stored_bytes: int


def write(folder: Path, name: str, split: str, entries: Sequence[Entry]) -> Run:
  """Writes a run; its files appear only when they are complete."""
  ordered = sorted(entries, key=lambda entry: entry[:5])
  keys = np.zeros((FIELDS, len(ordered)), np.uint64)
  offset = 0
  temporary = [folder / f".{name}.{os.getpid()}.{kind}.tmp" for kind in ("content", "keys")]
  with temporary[0].open("wb") as content:
    for i, entry in enumerate(ordered):
      target = b"" if entry.target_tokens is None else entry.target_tokens.tobytes()
      content.write(entry.tokens.tobytes() + target + entry.target)
      count = 0 if entry.target_tokens is None else len(entry.target_tokens)
      keys[:, i] = (
        *entry[:5],
        offset,
        len(entry.tokens),
        count,
        len(entry.target),
        entry.text_bytes,
        entry.unknown,
      )
      offset += entry.tokens.nbytes + len(target) + len(entry.target)
  with temporary[1].open("wb") as file:
    np.save(file, keys)
  for path, kind in zip(temporary, ("content", "keys"), strict=True):
    os.replace(path, folder / f"{name}.{kind}")
  return Run(name, split, len(ordered), offset)


class OpenRun:
  """The documents of a run whose hash is in a range."""

  def __init__(self, folder: Path, run: Run, low: int, high: int):
    """Opens the documents whose high part of the hash is at least `low` and less than `high`."""
    keys = np.load(folder / f"{run.name}.keys", mmap_mode="r")
    bounds = [
      np.searchsorted(keys[HIGH], np.uint64(x)) if x < 2**64 else keys.shape[1] for x in (low, high)
    ]
    self.keys: np.ndarray = np.array(keys[:, bounds[0] : bounds[1]])
    self._content = folder / f"{run.name}.content"
    self._mapped: np.ndarray | None = None

  def content(self, offset: int, size: int) -> memoryview:
    """Returns bytes of the run."""
    if self._mapped is None:
      self._mapped = np.memmap(self._content, np.uint8, "r").view(np.ndarray)
    return self._mapped[offset : offset + size].data
