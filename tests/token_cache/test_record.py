"""Tokens and targets are stored in few bytes and read unchanged."""

import numpy as np

from t5x_style.token_cache import record


def test_tokens_take_two_bytes_up_to_65536_ids():
  assert record.token_dtype(2**16).itemsize == 2 and record.token_dtype(2**16 + 1).itemsize == 4
  tokens = np.array([0, 1, 65_535])
  for ids in (2**16, 2**17):
    dtype = record.token_dtype(ids)
    (stored,) = record.encode(tokens, None, dtype)
    assert len(stored) == 3 * dtype.itemsize
    assert record.tokens(stored, dtype, targets=False).tolist() == tokens.tolist()


def test_a_long_document_is_cut_and_its_target_is_in_the_first_record():
  dtype = record.token_dtype(300)
  tokens = np.arange(2 * record.RECORD_TOKENS + 1) % 300
  target = record.Target("Ja, ö", np.array([5, 6], np.int32))
  stored = [*record.encode(tokens, target, dtype)]
  assert len(stored) == 3 == record.count(np.array([len(tokens)]))[0]
  pieces = [record.tokens(x, dtype, targets=True) for x in stored]
  np.testing.assert_array_equal(np.concatenate(pieces), tokens)
  found = record.target(stored[0], dtype)
  assert found.text == target.text and found.tokens.tolist() == [5, 6]
  assert record.count(np.array([0, 1, 4096, 4097])).tolist() == [1, 1, 1, 2]
