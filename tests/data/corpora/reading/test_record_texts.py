"""The text of a record and its target: from text, bytes and labels."""

import pytest

from t5x_style.data.corpora.reading import record_texts
from t5x_style.data.corpora.reading.record_texts import Fields
from t5x_style.data.corpora.reading.text_lengths import Lengths

FIELDS = Fields("text", "label")


def texts(example, fields=FIELDS):
  notes = []
  return record_texts.texts(example, fields, notes.append), notes


@pytest.mark.parametrize(
  ("label", "target"),
  [("é", "é"), (b"x", "x"), (3, "3"), (-2.0, "-2"), (True, "true"), (10**30, f"{10**30}")],
)
def test_labels_are_written_as_in_json(label, target):
  assert texts({"text": "a", "label": label}) == ((b"a", target.encode()), [])


def test_bytes_that_are_no_text_are_replaced_and_noted():
  (text, _), notes = texts({"text": b"caf\xe9", "label": "x\ud800"})
  assert text.decode() == "caf\ufffd"
  assert len(notes) == 2 and notes[0] == record_texts.NOT_UTF8 and "halves" in notes[1]


@pytest.mark.parametrize(
  ("example", "reason"),
  [
    ({"label": 1}, "have no field 'text'"),
    ({"text": "a"}, "have no field 'label'"),
    ({"text": 1, "label": 1}, "have no text in 'text'"),
    ({"text": None, "label": 1}, "have no text in 'text'"),
    ({"text": [b"a", b"b"], "label": 1}, "have no text in 'text'"),
    ({"text": "\n\t ", "label": 1}, "have only space in 'text'"),
    ({"text": "a", "label": 0.5}, "have no text and no label in 'label'"),
  ],
)
def test_records_without_text(example, reason):
  with pytest.raises(record_texts.LeftOutError) as raised:
    texts(example)
  assert str(raised.value) == reason


def test_another_length():
  fields = Fields("text", None, Lengths(2))
  assert texts({"text": "éé"}, fields)[0] == ("éé".encode(), None)
  with pytest.raises(record_texts.OtherLengthError):
    texts({"text": "é"}, fields)
