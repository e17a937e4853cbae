"""Windows: literal rows, and where a document is cut."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from t5x_style.data import windows

EOS = 1


def test_segment_ids():
  ids = windows.segment_ids(np.array([[7, 8, EOS, 9, EOS, 0], [EOS, 5, 6, 7, 8, 9]]), EOS)
  assert ids.tolist() == [[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 2, 2]]


def test_eos_follows_the_tokens_of_each_row():
  rows = windows.with_eos(np.array([[7, 8, 9], [7, 0, 0]]), np.array([3, 1]), 1, 5)
  assert rows.tolist() == [[7, 8, 9, 1, 0], [7, 1, 0, 0, 0]]


def test_ids_in_front_of_each_row():
  rows = np.zeros([2, 3], np.int32)
  assert windows.repeated((4, 9), rows).tolist() == [[4, 9], [4, 9]]
  assert windows.repeated((), rows).shape == (2, 0)


@given(st.integers(2, 500), st.integers(2, 60))
def test_a_document_is_cut_into_windows_of_two_tokens_or_more(size, length):
  starts, ends = (cuts.tolist() for cuts in windows.cuts_of_document(size, length))
  assert starts == [0, *ends[:-1]] and (ends[-1] == size or (length == 2 and ends[-1] == size - 1))
  sizes = [end - start for start, end in zip(starts, ends, strict=True)]
  assert min(sizes) >= 2 and max(sizes) <= length
  assert all(n == length for n in sizes[:-2]) and (len(sizes) < 2 or sizes[-2] >= length - 1)
