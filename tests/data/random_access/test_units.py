"""Units: every token of the joined stream is in one of an epoch."""

import numpy as np
import pytest

from t5x_style.data.pieces import Cutting
from t5x_style.data.random_access import plans, units
from tests import token_caches


@pytest.fixture
def split(tmp_path):
  documents = [np.arange(3, 3 + n) for n in (10, 1, 25, 7, 31)]
  return token_caches.make(tmp_path / "cache", {"train": documents}).split("train")


def joined(split):
  return split.tokens_between(0, split.joined_length)[0]


@pytest.mark.parametrize("length", [4, 7, 13, 1000])  # 79 tokens: rests of 3, 2, 1 and all
def test_joined_windows_hold_each_token_once(split, length):
  windows = units.JoinedWindows(split, length, key=5)
  stream = joined(split)
  cuts = set()
  for epoch in range(6):
    numbers = np.arange(windows.count)
    starts, lengths = windows.ranges(numbers, np.full_like(numbers, epoch))
    tokens = units.read(split, starts, lengths, length)
    cut = int(starts[0])
    cuts.add(cut)
    text = np.concatenate([row[:n] for row, n in zip(tokens, lengths, strict=True)])
    rotated = np.roll(stream, -cut)
    left_out = len(stream) % length == 1
    np.testing.assert_array_equal(text, rotated[: len(stream) - left_out])
    assert (tokens[np.arange(length) >= lengths[:, None]] == 0).all()
  assert len(cuts) > 3  # Every epoch is cut at another place.


def test_pieces_of_each_document(split):
  cutting = Cutting("windows", 8)
  plan = plans.open_plan(split._cache.folder, "content", split, cutting, None)
  pieces = units.PieceUnits(split, cutting, plan.positions)
  numbers = np.arange(pieces.count)
  starts, lengths = pieces.ranges(numbers, np.zeros_like(numbers))
  tokens = units.read(split, starts, lengths, 8)
  text = [tokens[i, : lengths[i]].tolist() for i in numbers]
  whole = [np.arange(3, 3 + n) for n in (10, 1, 25, 7, 31)]
  # 25 tokens: one would be left alone after three windows.
  cuts = [(0, 0, 8), (0, 8, 10), (2, 0, 8), (2, 8, 16), (2, 16, 23), (2, 23, 25), (3, 0, 7)]
  cuts += [(4, 0, 8), (4, 8, 16), (4, 16, 24), (4, 24, 31)]
  assert text == [whole[document][a:b].tolist() for document, a, b in cuts]
  assert pieces.documents(numbers).tolist() == [document for document, _, _ in cuts]
