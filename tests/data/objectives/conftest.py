"""What the tests of sentence pairs share: numbered documents, and pairs read from rows."""

import numpy as np
import pytest

from t5x_style.data.tokenizers import special_tokens


@pytest.fixture(scope="session")
def numbered(ordinary):
  """Documents whose tokens tell document and position: 60 documents of 100 tokens."""
  return [ordinary[i * 100 : (i + 1) * 100] for i in range(60)]


def _split(row, types, cls, sep):
  row = row[row > 0]
  first, second = row[types[: len(row)] == 0], row[types[: len(row)] == 1]
  assert first[0] == cls and first[-1] == sep and second[-1] == sep
  assert not np.isin([*first[1:-1], *second[:-1]], [cls, sep]).any()
  return first[1:-1].tolist(), second[:-1].tolist()


@pytest.fixture(scope="session")
def pairs(vocabulary):
  """Reads the examples of sentence pairs as (first segment, second segment, label)."""
  frame = [special_tokens.special_id(vocabulary, p) for p in ("[CLS]", "[SEP]")]

  def pairs(out):
    columns = (out["targets"], out["token_types"], out["pair_label"])
    return [
      (*_split(row, types, *frame), int(label)) for row, types, label in zip(*columns, strict=True)
    ]

  return pairs
