"""The documents of files of records, their splits and targets, and what is checked at the start."""

import hashlib
import json

import pytest

from t5x_style.data import corpora
from t5x_style.data.corpora.reading import record_files
from t5x_style.errors import UserError


def test_a_hash_of_the_text_decides_on_the_split():
  texts = [b"text %d" % i for i in range(2000)]
  chosen = {text for text in texts if record_files.split_of(text, 0.1) == "validation"}
  expected = {t for t in texts if hashlib.sha256(t).digest()[:4] < bytes.fromhex("1999999a")}
  assert chosen == expected and 150 < len(chosen) < 250
  assert {record_files.split_of(text, 0.0) for text in texts} == {"train"}


def test_parts_have_numbers_and_their_own_counts(write_lines, monkeypatch):
  monkeypatch.setattr(record_files, "_PART_BYTES", 2000)
  lines = [{"text": f"text {i}"} for i in range(300)]
  lines[250] = {"no": "text"}
  path = write_lines(*lines)
  corpus = corpora.Jsonl(path)
  parts = corpus.parts()
  assert len(parts) == 3 and all(part.split is None for part in parts)
  documents = [document for part in parts[:2] for document in corpus.read(part)]
  with pytest.warns(UserWarning, match="1 of .* JSON lines are left out.* first is line 251"):
    documents += corpus.read(parts[2])
  assert [d.line for d in documents] == [i for i in range(1, 301) if i != 251]
  assert all(d.text == f"text {d.line - 1}".encode() and d.file == path for d in documents)
  assert {d.split for d in documents} == {"train", "validation"}


def test_targets_are_counted_by_split(tmp_path):
  for name, labels in (("train", "aab"), ("valid", "bc")):
    lines = [json.dumps({"text": f"{name} {i}", "y": y}) for i, y in enumerate(labels)]
    (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
  corpus = corpora.Records(
    str(tmp_path), target_field="y", validation_pattern=f"{tmp_path}/valid.jsonl"
  )
  assert corpus.targets() == {"train": {"a": 2, "b": 1}, "validation": {"b": 1, "c": 1}}
  assert corpora.Records(str(tmp_path)).targets() == {}


def test_only_the_beginning_of_large_files_is_checked(write_lines, monkeypatch):
  monkeypatch.setattr(record_files, "_CHECKED_BYTES", 0)
  monkeypatch.setattr(record_files, "_LEAST_CHECKED", 2000)
  path = write_lines(*[{"text": "x" * 100}] * 50, *[b"no JSON"] * 400)
  corpora.Jsonl(path, validation_fraction=0).source()
  path = write_lines(*[b"no JSON"] * 50, *[{"text": "x" * 100}] * 400)
  with pytest.raises(UserError, match="lines are not JSON objects; line 1 is 'no JSON"):
    corpora.Jsonl(path, validation_fraction=0).source()


def test_no_text_has_a_length_that_is_asked_for(write_lines):
  path = write_lines({"text": "short"}, {"text": "also short"})
  with pytest.raises(UserError, match="a length between MIN_CHARACTERS = 20 and MAX_CHAR"):
    corpora.Jsonl(path, min_characters=20).source()
