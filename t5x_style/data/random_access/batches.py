"""The batches of a process, read ahead by Grain in threads; the place in them is one number."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

import grain
import numpy as np

from t5x_style.errors import UserError

Batch = dict[str, np.ndarray]
# Every process saves the same place under the same name.
_NAME = "stream_00000"
# Threads that make batches, and how many batches are ready ahead at most.
_THREADS = min(4, max(2, os.cpu_count() or 2))
_AHEAD = 4


class Made(NamedTuple):
  """A batch, and how many of its rows have nothing to predict."""

  batch: Batch
  useless: int


class _Batches:
  """Batches by number, as Grain reads a source."""

  def __init__(self, make: Callable[[int], Made]):
    self._make = make

  def __len__(self) -> int:
    return sys.maxsize  # A run has no last batch.

  def __getitem__(self, number: int) -> Made:
    return self._make(number)


class BatchIterator:
  """Endless batches; implements training.dataset.BatchIterator."""

  def __init__(
    self,
    make: Callable[[int], Made],
    identity: str,
    epochs: Callable[[int], dict[str, float]] = lambda _: {},
  ):
    """Starts at batch 0.

    Args:
      make: returns this process' rows of batch `number`; several threads call it.
      identity: of the data, saved with the place.
      epochs: how often each corpus has been read after this many batches.
    """
    self._epochs = epochs
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_AHEAD)
    self._ahead = iter(grain.MapDataset.source(_Batches(make)).to_iter_dataset(options))
    self._next = 0
    self._useless = 0
    self._identity = identity

  def __iter__(self) -> BatchIterator:
    return self

  def __next__(self) -> Batch:
    try:
      made: Made = next(self._ahead)
    except Exception:
      # Grain has dropped the batch that failed, but counts it as not read.
      self._ahead.set_state({"next_index": self._next})
      raise
    self._next += 1
    self._useless += made.useless
    return made.batch

  def skipped(self) -> str:
    """Says how many windows had nothing to predict since the process started; "" if none."""
    if not self._useless:
      return ""
    return f"{self._useless:,} windows had nothing to predict and carried no loss"

  def epochs(self) -> dict[str, float]:
    """Returns {corpus: how often it has been read so far}; {} for a run of one corpus."""
    return self._epochs(self._next)

  def get_state(self) -> dict[str, bytes]:
    """Returns the place after the last batch, also after an error of reading the next one."""
    return {_NAME: json.dumps({"batch": self._next, "data": self._identity}).encode()}

  def set_state(self, state: Mapping[str, bytes]) -> None:
    """Resumes after the batch at which `state` was taken; no batch before it is read.

    Raises:
      UserError: the place is not one of this data.
    """
    try:
      found = json.loads(state[_NAME])
      number, identity = int(found["batch"]), found["data"]
    except (KeyError, TypeError, ValueError) as error:  # ValueError: not UTF-8, no JSON
      raise UserError(
        "the saved data position is not that of a token cache: the run read its text as a stream. "
        "Continue with the CORPUS that it began with, or start a new run: another MODEL_DIR."
      ) from error
    if identity != self._identity:
      raise UserError(
        "the saved data position is that of other data: another token cache, objective, lengths, "
        "batch size or seed. Start a new run: another MODEL_DIR."
      )
    self._next = number
    self._ahead.set_state({"next_index": number})
