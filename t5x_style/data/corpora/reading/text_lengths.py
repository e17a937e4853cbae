"""Which lengths of texts a corpus reads."""

from __future__ import annotations

from typing import NamedTuple

from t5x_style.errors import UserError


class Lengths(NamedTuple):
  """Texts with fewer or more characters are left out."""

  fewest: int = 0
  most: int | None = None

  def check(self) -> None:
    """Raises UserError if no text has such a length."""
    if self.most is not None and self.most < self.fewest:
      raise UserError(
        f"MAX_CHARACTERS = {self.most} is less than MIN_CHARACTERS = {self.fewest}: no text has "
        "such a length."
      )

  def __contains__(self, text: object) -> bool:
    """Returns whether a text, as str or in UTF-8, is read."""
    if not self.fewest and self.most is None:
      return True
    assert isinstance(text, str | bytes)
    count = len(text if isinstance(text, str) else text.decode(errors="replace"))
    return self.fewest <= count and (self.most is None or count <= self.most)
