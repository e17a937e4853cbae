"""Files of pairs, and the arithmetic of accuracies."""

import json

import pytest

from launch.evaluation import minimal_pairs
from launch.evaluation.minimal_pairs import Accuracy, LeftOut, Pair
from t5x_style.errors import UserError


def line(good, bad, **keys):
  return json.dumps({"sentence_good": good, "sentence_bad": bad, **keys})


def test_lines(tmp_path):
  file = tmp_path / "agreement.jsonl"
  lines = [
    line("A b.", "A c.", field="syntax", linguistics_term="agreement", UID="one", pair_id="0"),
    "",
    line("D.", "E."),
    "{broken",
    json.dumps([1]),
    json.dumps({"sentence_good": "A."}),
    json.dumps({"sentence_good": "A.", "sentence_bad": 3}),
    line("same", "same"),
  ]
  file.write_bytes("\n".join(lines).encode() + b"\n\xff\n")
  found = list(minimal_pairs.read([file]))
  groups = {"field": "syntax", "linguistics_term": "agreement", "UID": "one"}
  assert found[:2] == [
    Pair("A b.", "A c.", f"{file}:1", groups),
    Pair("D.", "E.", f"{file}:3", {"UID": "agreement"}),
  ]
  left_out = {x.place.removeprefix(f"{file}:"): x.reason for x in found[2:]}
  assert all(isinstance(x, LeftOut) for x in found[2:])
  assert list(left_out) == ["4", "5", "6", "7", "8", "9"]
  for number, part in (
    *(("4", "not JSON"), ("5", "not a JSON object"), ("6", "no text 'sentence_bad'")),
    *(("7", "no text 'sentence_bad'"), ("8", "the same"), ("9", "not JSON")),
  ):
    assert part in left_out[number]


def test_files_and_folders(tmp_path):
  for name in ("b.jsonl", "a.jsonl", "notes.txt"):
    (tmp_path / name).write_text("")
  (tmp_path / "empty").mkdir()
  names = [x.name for x in minimal_pairs.files_of([str(tmp_path), str(tmp_path / "notes.txt")])]
  assert names == ["a.jsonl", "b.jsonl", "notes.txt"]
  with pytest.raises(UserError, match="no file that ends with .jsonl"):
    minimal_pairs.files_of([str(tmp_path / "empty")])
  with pytest.raises(UserError, match="does not exist; give a JSONL file of pairs"):
    minimal_pairs.files_of([str(tmp_path / "absent.jsonl")])


def test_ties_are_counted_and_not_correct():
  pairs = [
    Pair(good, bad, "x:1", {"UID": uid, "field": "f"})
    for good, bad, uid in (("a", "b", "1"), ("b", "a", "1"), ("a", "a", "1"), ("a", "b", "2"))
  ]
  found = minimal_pairs.count(pairs, {"a": -1.0, "b": -2.0}.__getitem__)
  assert found.total == found.groups["field"]["f"] == Accuracy(pairs=4, correct=2, ties=1)
  assert found.groups["UID"] == {"1": Accuracy(3, 1, 1), "2": Accuracy(1, 1, 0)}
  assert found.mean_of_uids == pytest.approx((1 / 3 + 1) / 2)


@pytest.mark.parametrize(
  ("correct", "pairs", "interval"),
  # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
  [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611))],
)
def test_wilsons_interval(correct, pairs, interval):
  assert Accuracy(pairs, correct, 0).interval == pytest.approx(interval, abs=5e-5)
  mirrored = Accuracy(pairs, pairs - correct, 0).interval
  assert mirrored == pytest.approx((1 - interval[1], 1 - interval[0]), abs=5e-5)
