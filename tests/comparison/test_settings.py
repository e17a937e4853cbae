"""The settings of a comparison: what is refused, and how candidates are named in files."""

import pytest

from t5x_style.comparison import settings
from t5x_style.errors import UserError

GIVEN = {"compare_dir": "/nowhere", "amount": 1e12}


def test_names_become_parts_of_file_names():
  names = ["masked LM", "UL2, no [X]", "30 %", "語"]
  assert list(map(settings.folder_name, names)) == ["masked-lm", "ul2-no-x", "30", "candidate"]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"candidates": {"masked LM": (), "Masked-LM": ()}}, "would share the folder 'masked-lm'"),
    ({"candidates": {"a": ()}, "seeds": (1, 1)}, "names a seed twice"),
    ({"candidates": {"a": ()}, "halve_by": "memory"}, "no measure that ranks models"),
    ({"candidates": {"a": ()}, "halve_by": "masked_accuracy"}, "no measure that ranks models"),
    ({"candidates": {"a": ()}, "halve_by": "classification"}, "needs CLASSIFICATION"),
    ({"candidates": {"a": ()}, "halve_by": "blimp"}, "needs PAIRS_FILE, which is None"),
    (
      {"candidates": {"a": ()}, "compare_dir": "gs://bucket/x"},
      "'gs://bucket/x' is no local folder",
    ),
  ],
)
def test_what_is_refused(changes, message):
  with pytest.raises(UserError, match=message):
    settings.Comparison(**GIVEN | changes)
