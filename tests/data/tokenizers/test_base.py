"""Vocabularies that take special tokens from their extra ids."""

import pytest

from t5x_style.data.tokenizers import vocabularies


def test_borrowing_mistakes():
  with pytest.raises(ValueError, match="takes 2 extra ids, but there are 1"):
    vocabularies.byte_vocabulary(1, ("[CLS]", "[MASK]"))
  with pytest.raises(ValueError, match="write a tuple"):
    vocabularies.byte_vocabulary(1, "[CLS]")
