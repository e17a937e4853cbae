"""JSON lines as a corpus: fields, compressed files, held-out documents, the copy of texts."""

import os
import warnings

import pytest

from t5x_style.data import corpora
from t5x_style.errors import UserError


def texts(corpus, split="train", silent=True):
  with warnings.catch_warnings():
    warnings.simplefilter("error" if silent else "ignore")
    dataset = corpus.source().get_dataset(split, shuffle=False)
  return sorted(example["text"].decode() for example in dataset.as_numpy_iterator())


def everything(pattern, **options):
  return corpora.Jsonl(pattern, validation_fraction=0, **options)


def error(*arguments, **options):
  with pytest.raises(ValueError) as raised:
    everything(*arguments, **options).source()
  return str(raised.value)


def test_texts_are_read_exactly(write_lines):
  path = write_lines({"text": "a\r\n\u2028 é \x00", "n": 1}, b"", b" ", {"text": "🙂", "x": [{}]})
  assert texts(everything(path)) == ["a\r\n\u2028 é \x00", "🙂"]


def test_another_field_and_packed_files(write_lines, tmp_path):
  write_lines({"body": "plain", "text": "no"})
  write_lines({"body": "compressed"}, name="b.jsonl.gz")
  assert texts(everything(f"{tmp_path}/*.jsonl*", field="body")) == ["compressed", "plain"]


def pairs(corpus, split="train"):
  dataset = corpus.source().get_dataset(split, shuffle=False).as_numpy_iterator()
  return sorted((example["text"].decode(), example["target"].decode()) for example in dataset)


def test_a_second_field_is_what_to_predict(write_lines):
  path = write_lines(
    {"text": "a", "label": "x"}, {"text": "b", "label": 3}, {"text": "c", "label": False}
  )
  corpus = everything(path, target_field="label")
  assert pairs(corpus) == [("a", "x"), ("b", "3"), ("c", "false")]
  assert corpus.targets() == {"train": {"x": 1, "3": 1, "false": 1}}
  assert everything(path).targets() == {}
  assert texts(everything(path)) == ["a", "b", "c"]
  assert corpus.fingerprint() != everything(path).fingerprint()


def test_lines_without_a_target_are_left_out(write_lines):
  path = write_lines(
    {"text": "a", "label": "x"}, {"text": "b"}, {"text": "c", "label": 0.5}, {"text": "d"}
  )
  corpus = everything(path, target_field="label")
  with pytest.warns(UserWarning, match="2 have no field 'label', 1 have no text and no label in"):
    assert pairs(corpus) == [("a", "x")]
  message = error(path, target_field="labels")
  assert "TARGET_FIELD = 'labels': no object read from" in message
  assert "they have 'label', 'text'. Set TARGET_FIELD" in message


def test_a_share_of_the_texts_is_held_out(write_lines):
  path = write_lines(*({"text": f"text {i % 500}"} for i in range(1000)))
  corpus = corpora.Jsonl(path, validation_fraction=0.1)
  train, validation = texts(corpus), texts(corpus, "validation")
  assert len(train) + len(validation) == 1000
  assert not set(train) & set(validation)  # equal texts stay together
  assert 50 < len(validation) < 160


def test_files_of_their_own_for_validation(write_lines, tmp_path):
  write_lines({"text": "held out"}, name="valid.jsonl")
  write_lines({"text": "seen"})
  corpus = corpora.Jsonl(f"{tmp_path}/*.jsonl", validation_pattern=f"{tmp_path}/valid*")
  assert (texts(corpus), texts(corpus, "validation")) == (["seen"], ["held out"])


def test_a_copy_follows_the_files(write_lines, cache):
  path = write_lines({"text": "one"})
  everything(path).source()
  assert not cache.exists()  # Nothing is copied without being asked for.
  first = everything(path, copy=True)
  assert texts(first) == ["one"]
  fingerprint = first.fingerprint()
  assert len([p for p in cache.iterdir() if p.is_dir()]) == 1
  os.utime(path, (1, 1))  # touched: read again, but the same text
  assert everything(path, copy=True).fingerprint() == fingerprint
  write_lines({"text": "two"})
  os.utime(path, (1, 2))
  assert texts(everything(path, copy=True)) == ["two"]
  assert everything(path, copy=True).fingerprint() != fingerprint


def test_a_copy_may_be_elsewhere(write_lines, cache, tmp_path):
  texts(everything(write_lines({"text": "one"}), cache_dir=str(tmp_path / "mine"), copy=True))
  assert (tmp_path / "mine").exists() and not cache.exists()


def test_a_damaged_packed_file(write_lines, tmp_path):
  path = write_lines(*({"text": "a" * i} for i in range(1, 100)), name="a.jsonl.gz")
  content = (tmp_path / "a.jsonl.gz").read_bytes()
  (tmp_path / "a.jsonl.gz").write_bytes(content[: len(content) // 2])
  assert error(path).startswith(f"{path}: its gzip data ends too early")
  (tmp_path / "a.jsonl.gz").write_bytes(b"not compressed")
  assert error(path).startswith(f"{path}: it is named .gz but holds no gzip data")
  (tmp_path / "a.jsonl").write_bytes('{"text": "é"}\n'.encode("utf-16"))
  message = error(f"{tmp_path}/a.jsonl")
  assert "text in UTF-16" in message and f"iconv -f UTF-16 -t UTF-8 {tmp_path}/a.jsonl" in message


def test_no_file_and_no_room(write_lines, tmp_path, monkeypatch):
  with pytest.raises(UserError, match="CORPUS_FILES"):
    everything(f"{tmp_path}/*.json").source()
  monkeypatch.setenv(
    "T5X_STYLE_CACHE", write_lines({"text": "a"})
  )  # a file where a folder has to be
  with pytest.raises(UserError, match="cannot be written.*T5X_STYLE_CACHE"):
    everything(write_lines({"text": "a"}), copy=True).source()
