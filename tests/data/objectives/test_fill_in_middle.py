"""FIM: rearranged windows restore the text; their shares are as set."""

import numpy as np
import pytest

from t5x_style.data.objectives.fill_in_middle import FillInMiddle
from t5x_style.data.tokenizers import special_tokens, token_ids, vocabularies


@pytest.fixture(scope="module")
def marks(vocabulary):
  pieces = [special_tokens.special_id(vocabulary, p) for p in ("[PRE]", "[MID]", "[SUF]")]
  return (*pieces, vocabulary.eos_id)


def restore(row, marks):
  """Returns (kind, window) of a row without padding."""
  pre, mid, suf, eos = marks
  row = row[row > 0].tolist()
  if row[0] != pre:
    return "plain", row
  assert row.pop() == eos
  i, j = row.index(suf), row.index(mid)
  suffix, rest = row[i + 1 : j], row[j + 1 :]
  if i > 1:
    return "psm", row[1:i] + rest + suffix
  return "spm", rest + suffix  # rest is prefix and middle; a PSM without prefix looks the same


def test_reversible_at_the_rates(examples, cut, marks):
  out = examples(FillInMiddle(), "decoder_only", {"targets": 36})
  kinds = []
  for row, window in zip(out["targets"], cut(32), strict=False):
    kind, raw = restore(row, marks)
    assert raw == window.tolist()
    kinds.append(kind)
  n = len(kinds)
  assert abs(kinds.count("plain") - n / 2) < 3.5 * np.sqrt(n / 4)
  # Of the PSM rows a few have an empty prefix: 2 of 33 cuts or so are at the front.
  assert abs(kinds.count("psm") - n / 4 * (1 - 2 / 33)) < 3.5 * np.sqrt(n * 3 / 16)


def test_extremes(examples, marks):
  plain = examples(FillInMiddle(rate=0), "decoder_only", {"targets": 36})["targets"]
  assert {restore(row, marks)[0] for row in plain} == {"plain"}
  spm = examples(FillInMiddle(rate=1, spm_share=1), "decoder_only", {"targets": 36})["targets"]
  assert {restore(row, marks)[0] for row in spm} == {"spm"}


def test_the_cuts_are_uniform(examples, vocabulary):
  out = examples(FillInMiddle(rate=1, spm_share=0), "decoder_only", {"targets": 14})["targets"]
  suf = special_tokens.special_id(vocabulary, "[SUF]")
  starts = (out[:-1] == suf).argmax(axis=1) - 1
  # The smaller of two draws from 0..10: P(k) = (2 (10 - k) + 1) / 121.
  n = len(starts)
  for k, count in enumerate(np.bincount(starts, minlength=11)):
    p = (2 * (10 - k) + 1) / 121
    assert abs(count - n * p) < 4 * np.sqrt(n * p * (1 - p))


def test_errors(vocabulary):
  with pytest.raises(ValueError, match="rate = 2 is no share"):
    FillInMiddle(rate=2).check(token_ids.of(vocabulary), {"targets": 36}, "decoder_only")
  with pytest.raises(ValueError, match=r"\[PRE\]"):
    ids = token_ids.of(vocabularies.byte_vocabulary())
    FillInMiddle().check(ids, {"targets": 36}, "decoder_only")
