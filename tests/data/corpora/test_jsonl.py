"""JSON lines: what is read of them, what is left out, and that the cache follows the files."""

import gzip
import json
import os
import warnings

import pytest

from t5x_style.data import corpora
from t5x_style.data.corpora import jsonl
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


def texts(corpus, split="train", silent=True):
  with warnings.catch_warnings():
    warnings.simplefilter("error" if silent else "ignore")
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


def warned(corpus):
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    corpus.source()
  return [str(warning.message) for warning in caught]


def test_lines_that_are_no_documents_are_counted(write, tmp_path):
  bad = [b"{not json", b"[1]", {"txt": "x"}, {"text": 3}, {"text": " \n"}, b'"text"', b"\xff{}"]
  corpus = everything(write({"text": "good"}, *bad, b"[" * 100_000, {"text": "too"}, {"text": "3"}))
  write({"text": None}, name="b.jsonl")
  corpus = everything(f"{tmp_path}/*.jsonl")
  (message,) = warned(corpus)
  assert message.startswith("9 of 12 JSON lines are left out")
  for part in (
    "2 are not JSON",
    "1 are nested too deeply",
    "2 are no JSON objects",
    "1 have no field 'text'",
    "2 have no text in 'text'",
    "1 have only space in 'text'",
    f"{tmp_path}/a.jsonl 8 of 11, the first is line 2",
    f"{tmp_path}/b.jsonl 1 of 1, the first is line 1",
  ):
    assert part in message
  assert texts(corpus, silent=False) == ["3", "good", "too"]
  assert warned(corpus) == [message]  # a run that reads them from the cache says it too


def test_what_is_changed_is_counted(write, tmp_path):
  """A text that UTF-8 cannot spell, or that is there twice, is read as far as it goes."""
  path = write(
    b'{"text": "half \\ud83d, whole \\ud83d\\ude00"}',
    b'{"text": "caf\xe9"}',
    b'{"text": "first", "x": {"text": 1}, "text": "last"}',
    b'{"text": "once", "x": [{"text": "inner"}]}',
  )
  corpus = everything(path)
  assert texts(corpus, silent=False) == [
    "caf\ufffd",
    "half \ufffd, whole \U0001f600",
    "last",
    "once",
  ]
  messages = warned(corpus)
  assert len(messages) == 3
  for part, line in (("halves of characters", 1), ("no UTF-8", 2), ("several fields 'text'", 3)):
    (message,) = (m for m in messages if part in m)
    assert message.startswith("1 JSON lines") and message.endswith(f"the first is {path}:{line}.")


def test_all_that_is_json_is_read(write):
  """Whatever stands beside the text: only that is wanted."""
  path = write(
    b'\xef\xbb\xbf{"n": ' + b"9" * 5000 + b', "text": "1"}\r',
    b'\xef\xbb\xbf{"n": [NaN, -Infinity, 1e999], "text": "2"}',
    b'  {"a": {"text": 1}, "text": "3\\u0000\\r"}\r',
    b'{"text": "4' + b"x" * 2**20 + b'"}',
  )
  assert texts(everything(path)) == ["1", "2", "3\0\r", "4" + "x" * 2**20]


@pytest.mark.parametrize(
  ("content", "advice"),
  [
    (",\n".join(['{"text": "a"}'] * 42), "sed 's/,\\s*$//'"),
    ("[\n" + ",\n".join(['{"text": "a"}'] * 42) + "\n]\n", "jq -c '.[]'"),
    ("[" + ", ".join(['{"text": "a"}'] * 3) + "]", "jq -c '.[]'"),
    (json.dumps([{"text": "a"}] * 9, indent=2), "jq -c '.[]'"),
    (json.dumps({"text": "a", "n": [1]}, indent=2), "jq -c ."),
    ('{"text": "a",\n "n": 1}\n' * 5000, "jq -c ."),
    ("plain text\nmore", "text_files.gin"),
  ],
)
def test_other_forms_are_refused(write, tmp_path, content, advice):
  """A few lines that happen to be objects are not what the file was written for."""
  write({"text": "good"})
  path = write(content.encode(), name="b c.jsonl")
  message = error(f"{tmp_path}/*.jsonl")
  assert message.startswith(f"{path}: ") and "lines are no JSON objects; line 1 is" in message
  assert advice in message and ("b c.jsonl'" in message or "gin" in advice)


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
  assert "2 of the first 2 lines are no JSON objects" in message and '{"text": "..."}' in message
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
  assert error(path).startswith(f"{path}: its gzip data ends too early")
  (tmp_path / "a.jsonl.gz").write_bytes(b"not packed")
  assert error(path).startswith(f"{path}: it is named .gz but holds no gzip data")
  (tmp_path / "a.jsonl").write_bytes('{"text": "é"}\n'.encode("utf-16"))
  message = error(f"{tmp_path}/a.jsonl")
  assert "text in UTF-16" in message and f"iconv -f UTF-16 -t UTF-8 {tmp_path}/a.jsonl" in message


def test_no_file_and_no_room(write, tmp_path, monkeypatch):
  with pytest.raises(UserError, match="CORPUS_FILES"):
    everything(f"{tmp_path}/*.json").source()
  monkeypatch.setenv("T5X_STYLE_CACHE", write({"text": "a"}))  # a file where a folder has to be
  with pytest.raises(UserError, match="cannot be written.*T5X_STYLE_CACHE"):
    everything(write({"text": "a"})).source()
