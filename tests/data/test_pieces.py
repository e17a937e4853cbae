"""Pieces of documents, compared with loops over their tokens."""

import numpy as np
import pytest

from t5x_style.data.pieces import Cutting

DOCUMENTS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 27, 101])


def cut(cutting, n):
  """The pieces of a document of n tokens as (start, end), by the rules in words."""
  length = cutting.length
  if cutting.kind == "whole":
    return [(0, n)] if n >= cutting.shortest else []
  pieces = [(start, min(start + length, n)) for start in range(0, n, length)]
  if cutting.kind == "chunks":
    return [(a, b) for a, b in pieces if b - a >= cutting.shortest]
  if pieces and pieces[-1][1] - pieces[-1][0] == 1:  # One token would be left alone.
    last = pieces.pop()
    if pieces and length > 2:
      before = pieces.pop()
      pieces += [(before[0], before[1] - 1), (last[0] - 1, last[1])]
  return pieces


@pytest.mark.parametrize(
  "cutting",
  [
    Cutting("windows", 5),
    Cutting("windows", 3),
    Cutting("windows", 2),
    Cutting("chunks", 6, 4),
    Cutting("whole"),
    Cutting("whole", shortest=0),
  ],
)
def test_pieces_are_those_of_the_rules(cutting):
  of, starts = cutting.starts(DOCUMENTS)
  ends = cutting.ends(DOCUMENTS[of], starts)
  expected = [(i, *piece) for i, n in enumerate(DOCUMENTS) for piece in cut(cutting, int(n))]
  assert list(zip(of.tolist(), starts.tolist(), ends.tolist(), strict=True)) == expected
  assert cutting.counts(DOCUMENTS).tolist() == [len(cut(cutting, int(n))) for n in DOCUMENTS]
