"""Counts the sentinels at the end of a SentencePiece model's pieces."""

import pytest

from t5x_style.sentinels import own_sentinels


@pytest.mark.parametrize(
  ("pieces", "count"),
  [
    ([], 0),
    (["a", "<extra_id_1>"], 0),
    (["<extra_id_0>", "a"], 0),
    (["a", "<extra_id_0>"], 1),
    (["a", "\u2581<extra_id_2>", "\u2581<extra_id_1>", "\u2581<extra_id_0>"], 3),
    (["<extra_id_3>", "<extra_id_1>", "<extra_id_0>"], 2),
  ],
)
def test_sentinels_are_counted_from_the_end(pieces, count):
  assert own_sentinels(reversed(pieces)) == count
