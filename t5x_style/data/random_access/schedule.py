"""Which component of a mixture each row of a run comes from.

The rows of a run are cut into blocks. In every block each component has its share of the rows, to
within two, and in all blocks so far to within one; the order inside a block is a permutation. So a
row's component, and how many rows it had before, are computed from the row's number alone.
Where the rows of a component are limited, the block in which it has the last of them is shorter,
and its share goes to the others after that block.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from t5x_style.data import corpus_mixture, noise
from t5x_style.data.random_access import permutation
from t5x_style.errors import UserError

# Shares are whole numbers of 2^-32, so that sums of them are exact.
_WHOLE = 2**32
_SMALLEST_BLOCK = 64  # rows
_NO_LIMIT = 2**62  # rows
_MOST_ROWS = 2**40  # No run has this many; limits above it are none.
_SMALLEST_SHARE = 1e-6  # It bounds the blocks.


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The components of the rows 0, 1, 2, ... of a run.

  Attributes:
    rates: of the components, in any unit; a component of rate 0 has no row.
    seed: of the order in the blocks.
    most: for each component the most rows that it may have, None if any number; () if all may.
  """

  rates: tuple[float, ...]
  seed: int
  most: tuple[int | None, ...] = ()

  def __post_init__(self):
    """Checks the rates.

    Raises:
      UserError: the share of a component that is drawn is too small.
    """
    total = math.fsum(self.rates)
    small = [rate / total for rate in self.rates if 0 < rate < _SMALLEST_SHARE * total]
    if small:
      raise UserError(
        f"a corpus with an objective has the share {min(small):.2g} of the rows, and the smallest "
        f"is {_SMALLEST_SHARE:g}: set its rate (CORPUS_RATES, REPLAY_SHARE, or that of the "
        "objective) to 0, or raise it."
      )

  @functools.cached_property
  def phases(self) -> list[_Phase]:
    """The spans of rows in which the same components are drawn."""
    most = self.most or (None,) * self._count
    limits = np.array([_NO_LIMIT if x is None or x > _MOST_ROWS else x for x in most])
    before, first, found = np.zeros(self._count, np.int64), 0, []
    active = (np.array(self.rates) > 0) & (limits > 0)
    while active.any():
      shares = _Shares(tuple(np.where(active, self.rates, 0.0).tolist()))
      limited = active & (limits < _NO_LIMIT)
      if not limited.any():
        found.append(_Phase(first, _NO_LIMIT, before, shares))
        break
      left = np.where(active, limits - before, _NO_LIMIT)
      blocks = shares.most_blocks(left)
      if blocks:
        found.append(_Phase(first, first + blocks * shares.block, before, shares))
        before, first = before + shares.counts(blocks), first + blocks * shares.block
      last = np.minimum(shares.counts(blocks + 1) - shares.counts(blocks), limits - before)
      last = np.where(active, last, 0)
      found.append(_Phase(first, first + int(last.sum()), before, _LastBlock(last)))
      before, first = before + last, first + int(last.sum())
      active &= before < limits
    return found

  @property
  def rows(self) -> int | None:
    """The rows until every component has had the most that it may have; None: without end."""
    end = self.phases[-1].end if self.phases else 0
    return end if end < _NO_LIMIT else None

  @property
  def shares(self) -> _Shares:
    """The shares of the components while none has ended."""
    return _Shares(self.rates)

  @property
  def _count(self) -> int:
    return len(self.rates)

  def counts(self, rows: int) -> np.ndarray:
    """Returns about how many of the first `rows` rows each component has, float64 [components]."""
    phase = self._phases_of(np.array([max(rows - 1, 0)]))[0]
    found = self.phases[phase]
    shares = np.array(found.shares.rates) / sum(found.shares.rates)
    return found.before + (rows - found.first) * shares

  def __call__(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the component of each row, and which row of that component it is, from 0.

    Args:
      rows: int64 [n].

    Returns:
      int64 [n] each.

    Raises:
      UserError: all components have had the most rows that they may have.
    """
    rows = np.asarray(rows, np.int64)
    components, numbers = np.zeros_like(rows), np.zeros_like(rows)
    of = self._phases_of(rows)
    for number in np.unique(of).tolist():
      phase, inside = self.phases[number], of == number
      found, own = phase.shares(rows[inside] - phase.first, self.seed + number)
      components[inside], numbers[inside] = found, own + phase.before[found]
    return components, numbers

  def _phases_of(self, rows: np.ndarray) -> np.ndarray:
    """Returns the index of the phase of each row."""
    ends = np.array([phase.end for phase in self.phases], np.int64)
    found = np.searchsorted(ends, rows, side="right")
    if (found == len(ends)).any():
      raise UserError(corpus_mixture.ALL_ENDED)
    return found


class _Phase(NamedTuple):
  """A span of rows in which the same components are drawn."""

  first: int  # row
  end: int  # row
  before: np.ndarray  # int64 [components], rows of each before
  shares: _Shares | _LastBlock


@dataclasses.dataclass(frozen=True)
class _Shares:
  """The components of rows, without limits."""

  rates: tuple[float, ...]

  @functools.cached_property
  def _sums(self) -> list[int]:
    """The running sums of the shares: 0, ..., 2^32."""
    sums = np.cumsum(self.rates, dtype=np.float64)
    return [0, *(round(x / sums[-1] * _WHOLE) for x in sums.tolist())]

  @functools.cached_property
  def block(self) -> int:
    """The rows of a block: every component that has a share has one row of it or more."""
    shares = np.diff(self._sums)
    return max(_SMALLEST_BLOCK, -(-_WHOLE // int(shares[shares > 0].min())))

  def counts(self, blocks: int) -> np.ndarray:
    """Returns how many rows each component has in the first `blocks` blocks, int64 [components]."""
    edges = [share * self.block * blocks // _WHOLE for share in self._sums]
    return np.diff(np.array(edges, np.int64))

  def most_blocks(self, rows: np.ndarray) -> int:
    """Returns how many blocks there are in which no component has more than its `rows`."""

    def fits(blocks: int) -> bool:
      return bool((self.counts(blocks) <= rows).all())

    low, high = 0, 1
    while fits(high):
      low, high = high, 2 * high
    while high - low > 1:
      middle = (low + high) // 2
      low, high = (middle, high) if fits(middle) else (low, middle)
    return low

  def __call__(self, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `Schedule` does."""
    if sum(rate > 0 for rate in self.rates) == 1:
      return np.full_like(rows, np.argmax(self.rates)), rows
    components, numbers = np.zeros_like(rows), np.zeros_like(rows)
    blocks, places = np.divmod(rows, self.block)
    for block in np.unique(blocks).tolist():
      inside = blocks == block
      before = self.counts(block)
      found, own = _in_block(places[inside], self.counts(block + 1) - before, seed, block)
      components[inside], numbers[inside] = found, before[found] + own
    return components, numbers


class _LastBlock(NamedTuple):
  """A block in which a component has the last of its rows."""

  rates: np.ndarray  # int64 [components], the rows of each in the block

  def __call__(self, rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `Schedule` does."""
    return _in_block(rows, self.rates, seed, 0)


def _in_block(
  places: np.ndarray, counts: np.ndarray, seed: int, block: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the components of places in a block, and which row of these in the block each is.

  Args:
    places: int64 [n].
    counts: int64 [components], rows of each in the block.
    seed, block: decide on the order.
  """
  edges = np.cumsum(counts)
  key = noise.mix(noise.mix(np.array([seed], np.int64).view(np.uint64)) ^ np.uint64(block))
  slots = permutation.permuted(places, int(edges[-1]), key)
  components = np.searchsorted(edges, slots, side="right")
  return components, slots - (edges - counts)[components]
