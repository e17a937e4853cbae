"""Sentinels that a SentencePiece model has itself, as mT5's: <extra_id_1>, then <extra_id_0>."""

from collections.abc import Iterable

SPACE = "\u2581"  # how most SentencePiece models write a space


def own_sentinels(from_the_last: Iterable[str]) -> int:
  """Returns how many sentinels a model ends with.

  Args:
    from_the_last: the texts of the model's pieces, the last one first.
  """
  count = 0
  for piece in from_the_last:
    if piece.removeprefix(SPACE) != f"<extra_id_{count}>":
      break
    count += 1
  return count
