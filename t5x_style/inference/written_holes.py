"""Finds in what a decoder wrote which tokens belong into which hole. Plain ids, no text."""

from collections.abc import Sequence

Span = tuple[int, int]  # of written tokens: [start, stop)


def spans_after_sentinels(
  written: Sequence[int], sentinels: Sequence[int], eos_id: int, count: int
) -> dict[int, Span]:
  """Returns the span of each hole that T5's targets fill (Raffel et al. 2019, section 3.1.4).

      written  <0> b c <1> f EOS    returns  {0: (1, 3), 1: (4, 5)}

  Args:
    written: token ids.
    sentinels: of the vocabulary, in order.
    eos_id: ends the last span.
    count: how many holes there are; sentinels of later ones only end a span.

  Returns:
    {hole: its span}; holes of which no sentinel was written are missing, and of one that was
    written twice the first counts.
  """
  number = {int(i): k for k, i in enumerate(sentinels)}
  starts = [place for place, i in enumerate(written) if i in number]
  ends = [place for place, i in enumerate(written) if i in number or i == eos_id]
  found: dict[int, Span] = {}
  for place in starts:
    hole = number[int(written[place])]
    stop = next((end for end in ends if end > place), len(written))
    if hole < count and hole not in found:
      found[hole] = (place + 1, stop)
    if stop < len(written) and written[stop] == eos_id:
      break
  return found


def spans_between_parts(
  written: Sequence[int], parts: Sequence[Sequence[int]], eos_id: int
) -> list[Span]:
  """Returns the span of each hole where a decoder repeats the text around the holes (BART).

      written  b c d f EOS    parts  [d] []    returns  [(0, 2), (3, 4)]

  Args:
    written: token ids after the part before the first hole.
    parts: the ids after each hole.
    eos_id: ends the text.

  Returns:
    The spans of the first holes, up to one after which the text was not repeated.
  """
  row = list(map(int, written))
  end = row.index(eos_id) if eos_id in row else len(row)
  found: list[Span] = []
  place = 0
  for number, part in enumerate(parts):
    wanted, last = list(map(int, part)), number == len(parts) - 1
    if last and eos_id not in row and wanted != row[end - len(wanted) : end]:
      last = False  # It was cut off before it ended.
    stop = end - len(wanted) if last else _find(row[:end], wanted, place)
    if stop < place or row[stop : stop + len(wanted)] != wanted:
      break
    found.append((place, stop))
    place = stop + len(wanted)
  return found


def _find(row: list[int], wanted: list[int], start: int) -> int:
  """Returns the first place of some ids in a row from `start` on, or -1."""
  for place in range(start, len(row) - len(wanted) + 1):
    if row[place : place + len(wanted)] == wanted:
      return place
  return -1
