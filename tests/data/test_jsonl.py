"""JSON lines: what is read of them, what is left out, and that the cache follows the files."""

import gzip
import json
import os
import warnings

import pytest

from t5x_style.data import corpora, jsonl
from t5x_style.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture
def write(tmp_path):
  def write(*lines, name="a.jsonl"):
    content = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    data = b"\n".join(content) + b"\n"
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(tmp_path / name)

  return write


def texts(corpus, split="train"):
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    dataset = corpus.source().get_dataset(split, shuffle=False)
  return sorted(example["text"].decode() for example in dataset.as_numpy_iterator())


def everything(pattern, **options):
  return corpora.Jsonl(pattern, validation_fraction=0, **options)


def test_texts_are_read_exactly(write):
  path = write({"text": "a\r\n\u2028 é \x00", "n": 1}, b"", b" ", {"text": "🙂", "x": [{}]})
  assert texts(everything(path)) == ["a\r\n\u2028 é \x00", "🙂"]


def test_another_field_and_packed_files(write, tmp_path):
  write({"body": "plain", "text": "no"})
  write({"body": "packed"}, name="b.jsonl.gz")
  assert texts(everything(f"{tmp_path}/*.jsonl*", field="body")) == ["packed", "plain"]


def test_lines_that_are_no_documents_are_counted_once(write, tmp_path):
  bad = [b"{not json", b"[1]", {"txt": "x"}, {"text": 3}, {"text": " \n"}, b'"text"', b"\xff{}"]
  corpus = everything(write({"text": "good"}, *bad, b'{"text": "half \\ud83d"}', b'{"text": 1' * 3))
  with pytest.warns(UserWarning) as caught:
    corpus.source()
  (warning,) = caught
  message = str(warning.message)
  assert message.startswith("8 JSON lines are left out")
  for part in (
    "3 are not JSON",
    "2 are no JSON objects",
    "1 have no field 'text'",
    "1 have no text in 'text'",
    "1 have only space in 'text'",
    f"The first is {tmp_path}/a.jsonl:2.",
  ):
    assert part in message
  assert texts(corpus) == ["good", "half ?"]  # from the cache, silently


def test_a_share_of_the_texts_is_held_out(write):
  path = write(*({"text": f"text {i % 500}"} for i in range(1000)))
  corpus = corpora.Jsonl(path, validation_fraction=0.1)
  train, validation = texts(corpus), texts(corpus, "validation")
  assert len(train) + len(validation) == 1000
  assert not set(train) & set(validation)  # equal texts stay together
  assert 50 < len(validation) < 160
  assert corpus.document_count("validation") == len(validation)


def test_files_of_their_own_for_validation(write, tmp_path):
  write({"text": "held out"}, name="valid.jsonl")
  write({"text": "seen"})
  corpus = corpora.Jsonl(f"{tmp_path}/*.jsonl", validation_pattern=f"{tmp_path}/valid*")
  assert (texts(corpus), texts(corpus, "validation")) == (["seen"], ["held out"])


def test_the_cache_follows_the_files(write, cache):
  path = write({"text": "one"})
  first = everything(path)
  assert texts(first) == ["one"]
  fingerprint = first.fingerprint()
  assert len([p for p in cache.iterdir() if p.is_dir()]) == 1
  os.utime(path, (1, 1))  # touched: read again, but the same text
  assert everything(path).fingerprint() == fingerprint
  write({"text": "two"})
  os.utime(path, (1, 2))
  assert texts(everything(path)) == ["two"]
  assert everything(path).fingerprint() != fingerprint


def test_the_cache_may_be_elsewhere(write, cache, tmp_path):
  texts(everything(write({"text": "one"}), cache_dir=str(tmp_path / "mine")))
  assert (tmp_path / "mine").exists() and not cache.exists()


def error(*arguments, **options):
  with pytest.raises(ValueError) as raised:
    everything(*arguments, **options).source()
  return str(raised.value)


def test_a_field_that_is_not_there(write, cache):
  message = error(write({"content": "a", "id": 1}, {"content": "b", "url": "u"}))
  assert "JSON_FIELD = 'text'" in message and "'content', 'id', 'url'" in message
  assert not [path for path in cache.iterdir() if path.is_dir()]


def test_a_field_that_is_not_there_is_noticed_early(write, monkeypatch):
  monkeypatch.setattr(jsonl, "_PATIENCE", 10)
  message = error(write(*({"content": "a"} for _ in range(50))))
  assert "a.jsonl:10 has that field" in message


def test_files_without_documents(write):
  message = error(write(b"plain text", b"more", name="a.txt"))
  assert "2 lines are not JSON" in message and '{"text": "..."}' in message
  assert "there are no lines" in error(write(b"", name="b.txt"))
  assert "have no text in 'text'" in error(write({"text": ["a", "b"]}, name="c.txt"))


def test_all_documents_held_out(write):
  path = write({"text": "only"})
  with pytest.raises(ValueError, match="all 1 documents.*are held out.*VALIDATION_FRACTION"):
    corpora.Jsonl(path, validation_fraction=0.999999).source()


def test_a_damaged_packed_file(write, tmp_path):
  path = write(*({"text": "a" * i} for i in range(1, 100)), name="a.jsonl.gz")
  content = (tmp_path / "a.jsonl.gz").read_bytes()
  (tmp_path / "a.jsonl.gz").write_bytes(content[: len(content) // 2])
  message = error(path)
  assert f"{path}, matched by CORPUS_FILES" in message and "cannot be read" in message
  (tmp_path / "a.jsonl.gz").write_bytes(b"not packed")
  assert "cannot be read" in error(path)


def test_no_file_and_no_room(write, tmp_path, monkeypatch):
  with pytest.raises(UserError, match="CORPUS_FILES"):
    everything(f"{tmp_path}/*.json").source()
  monkeypatch.setenv("T5X_STYLE_CACHE", write({"text": "a"}))  # a file where a folder has to be
  with pytest.raises(UserError, match="cannot be written.*T5X_STYLE_CACHE"):
    everything(write({"text": "a"})).source()
