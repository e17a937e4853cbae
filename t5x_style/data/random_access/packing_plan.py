"""Which examples share a row: best fit decreasing for any number of them, by their sizes.

Examples of one size are interchangeable, and rows with the same room left are, too. So all examples
of a size are placed at once, and the work depends on the number of different sizes and not on the
number of examples (histogram packing: Krell et al. 2021, "Efficient sequence packing without
cross-contamination", section 3). Rows are about as full as those of packing.best_fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Pattern(NamedTuple):
  """Rows that hold examples of the same sizes."""

  rows: int
  examples: tuple[int, ...]  # their sizes, as indices


def patterns(sizes: np.ndarray, counts: np.ndarray, room: np.ndarray) -> list[Pattern]:
  """Packs examples by best fit decreasing (Garey and Johnson, Computers and Intractability, 6.1).

  An example needs room on every side (inputs, targets); its size is the sum of its shares. It goes
  into the fullest row that has room; the next one of the same size goes into the next such row,
  which on two sides leaves fewer rows full on one of them only.

      sizes [[3 2] [6 3] [2 3]]   counts [1 1 1]   room [6 6]
      returns one row with sizes 0 and 2, and one row with size 1

  Args:
    sizes: int64 [n, sides], the different sizes in tokens, at most `room`.
    counts: int64 [n], how many examples there are of each.
    room: int64 [sides], tokens of an empty row.
  """
  rows = _Rows(len(room))
  shares = sizes / room
  for size in np.argsort(-shares.sum(axis=1), kind="stable").tolist():
    left, need, share = int(counts[size]), sizes[size], float(shares[size].sum())
    while left:
      group = rows.fullest(need)
      if group is None:
        in_a_row = int((room // np.maximum(need, 1)).min())
        group = rows.opened(room, -(-left // in_a_row))
      number = min(int(rows.number[group]), left)
      rows.place(group, number, size, need, share)
      left -= number
  return rows.patterns()


class _Rows:
  """Groups of rows with equal contents, open for more."""

  def __init__(self, sides: int):
    self.left = np.zeros((64, sides), np.int64)  # tokens of room in each row of a group
    self.number = np.zeros(64, np.int64)  # rows in the group
    self._total = np.zeros(64)  # sum of the shares of the room that are left
    self._contents: list[Any] = []  # (size, contents before) or None

  def fullest(self, need: np.ndarray) -> int | None:
    """Returns the group of the fullest rows that have room for `need`, int64 [sides]."""
    n = len(self._contents)
    fits = (self.left[:n] >= need).all(axis=1) & (self.number[:n] > 0)
    if not fits.any():
      return None
    return int(np.where(fits, self._total[:n], np.inf).argmin())

  def opened(self, room: np.ndarray, number: int) -> int:
    """Opens empty rows; returns their group."""
    return self._add(room, number, float(len(room)), None)

  def place(self, group: int, number: int, size: int, tokens: np.ndarray, share: float) -> None:
    """Puts an example into each of `number` rows of a group; these become a group of their own."""
    left, total = self.left[group] - tokens, self._total[group] - share
    contents = (size, self._contents[group])
    if number == self.number[group]:
      self.left[group], self._total[group], self._contents[group] = left, total, contents
    else:
      self.number[group] -= number
      self._add(left, number, total, contents)

  def patterns(self) -> list[Pattern]:
    """Returns the contents of all groups."""
    found = []
    for number, contents in zip(self.number.tolist(), self._contents, strict=False):
      examples = []
      while contents:
        size, contents = contents
        examples.append(size)
      if examples:
        found.append(Pattern(number, tuple(reversed(examples))))
    return found

  def _add(self, left: np.ndarray, number: int, total: float, contents: Any) -> int:
    group = len(self._contents)
    if group == len(self.number):
      self.left = np.pad(self.left, [(0, group), (0, 0)])
      self.number, self._total = np.pad(self.number, (0, group)), np.pad(self._total, (0, group))
    self.left[group], self.number[group], self._total[group] = left, number, total
    self._contents.append(contents)
    return group


def assign(sizes: np.ndarray, found: Sequence[Pattern]) -> tuple[np.ndarray, np.ndarray]:
  """Says which examples are in the rows of patterns.

  Args:
    sizes: int64 [n], the size of each example, as an index into those of `patterns`.
    found: patterns of exactly these examples.

  Returns:
    int64 [n], the examples row by row, in ascending order in each; and
    int64 [rows + 1], where the examples of each row begin, and where the last ones end.
  """
  waiting = np.argsort(sizes, kind="stable")
  following = np.searchsorted(sizes[waiting], np.arange(int(sizes.max(initial=0)) + 1))
  order, numbers = [], []
  for pattern in found:
    columns = []
    for size in pattern.examples:
      first = following[size]
      following[size] += pattern.rows
      columns.append(waiting[first : following[size]])
    rows = np.sort(np.stack(columns, axis=1), axis=1)
    order.append(rows.ravel())
    numbers.append(np.full(pattern.rows, rows.shape[1]))
  if not order:
    return np.zeros(0, np.int64), np.zeros(1, np.int64)
  return np.concatenate(order), np.cumsum([0, *np.concatenate(numbers)])
