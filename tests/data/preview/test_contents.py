"""The texts and pictures of a preview."""

import numpy as np

from t5x_style.data.preview.contents import shrunk


def test_columns_are_the_components_and_all_together(contents):
  names = [name for name, _ in contents.columns]
  if contents.architecture == "decoder_only":
    assert (names[-1], {name[0] for name in names[:-1]}) == ("all", {"R", "S", "X"})
  else:
    assert names == ["masked_lm"]
  for _, cells in contents.figures():
    assert len(cells) == len(names)


def test_shrunk():
  assert shrunk(np.tri(3, dtype=bool), 24).tolist() == np.tri(3, dtype=bool).tolist()
  assert shrunk(np.tri(100, dtype=bool), 4).tolist() == np.tri(4, dtype=bool).tolist()
  wide = np.zeros((2, 100), bool)
  wide[0, :50] = True
  assert shrunk(wide, 4).tolist() == [[True, True, False, False], [False] * 4]


def test_who_sees_whom_is_said(contents):
  assert contents.remarks()[0] == "The documents of a row see each other (CROSS_DOCUMENTS)."
