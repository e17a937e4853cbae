"""Pieces cover an array exactly once, and none is larger than the limit."""

import math

import numpy as np
import pytest

from t5x_style.checkpoints.array_pieces import PIECE_BYTES, grouped_shape, piece_shape, pieces


@pytest.mark.parametrize(
  ("shape", "piece"), [((5, 4), (2, 3)), ((6,), (6,)), ((3, 2), (9, 1)), ((), ())]
)
def test_every_number_is_in_one_piece(shape, piece):
  count = np.zeros(shape, int)
  for index in pieces(shape, piece):
    count[index] += 1
    assert all(n <= most for n, most in zip(count[index].shape, piece, strict=True))
  assert (count == 1).all()


@pytest.mark.parametrize("shape", [(80, 8192, 8192), (3, 5, 7), (1, 50_000_000)])
def test_pieces_are_cut_along_one_axis(shape):
  found = piece_shape(shape, 4, axis=1)
  assert (found[0], found[2:]) == (shape[0], shape[2:])
  assert found[1] == shape[1] or math.prod(found) * 4 <= PIECE_BYTES < 2 * math.prod(found) * 4


@pytest.mark.parametrize(
  ("shape", "chunk", "group"),
  [
    ((4096, 4096), (64, 128), (4096, 4096)),  # 64 MiB of small chunks are one piece
    ((8, 8192, 8192), (1, 256, 8192), (1, 2048, 8192)),
    ((3, 1 << 25), (1, 1 << 25), (1, 1 << 25)),  # a chunk that is larger is a piece on its own
    ((10, 7), (4, 2), (10, 7)),
    ((), (), ()),
  ],
)
def test_groups_are_of_whole_chunks(shape, chunk, group):
  assert grouped_shape(shape, chunk, itemsize=4) == group
