"""Records that are left out or changed are counted, and other formats are refused."""

import json
import warnings

import pytest

from t5x_style.data import corpora
from t5x_style.data.corpora.reading import record_tally


def texts(corpus, split="train", silent=True):
  with warnings.catch_warnings():
    warnings.simplefilter("error" if silent else "ignore")
    dataset = corpus.source().get_dataset(split, shuffle=False)
  return sorted(example["text"].decode() for example in dataset.as_numpy_iterator())


@pytest.fixture(params=[False, True], ids=["streamed", "copied"])
def everything(request):
  """Returns a corpus of all JSON lines, which are streamed or copied first."""

  def everything(pattern, **options):
    return corpora.Jsonl(pattern, validation_fraction=0, copy=request.param, **options)

  return everything


def warned(corpus):
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    corpus.source()
  return [str(warning.message) for warning in caught]


@pytest.fixture
def error(everything):
  def error(*arguments, **options):
    with pytest.raises(ValueError) as raised:
      everything(*arguments, **options).source()
    return str(raised.value)

  return error


def test_lines_that_are_no_documents_are_counted(everything, write_lines, tmp_path):
  bad = [b"{not json", b"[1]", {"txt": "x"}, {"text": 3}, {"text": " \n"}, b'"text"', b"\xff{}"]
  corpus = everything(
    write_lines({"text": "good"}, *bad, b"[" * 100_000, {"text": "too"}, {"text": "3"})
  )
  write_lines({"text": None}, name="b.jsonl")
  corpus = everything(f"{tmp_path}/*.jsonl")
  (message,) = warned(corpus)
  assert message.startswith("9 of 12 JSON lines are left out")
  for part in (
    "2 are not JSON",
    "1 are nested too deeply",
    "2 are not JSON objects",
    "1 have no field 'text'",
    "2 have no text in 'text'",
    "1 have only space in 'text'",
    f"{tmp_path}/a.jsonl 8 of 11, the first is line 2",
    f"{tmp_path}/b.jsonl 1 of 1, the first is line 1",
  ):
    assert part in message
  assert texts(corpus, silent=False) == ["3", "good", "too"]
  assert warned(corpus) == [message]  # each time


def test_what_is_changed_is_counted(everything, write_lines):
  """Texts that UTF-8 cannot spell and fields that occur twice are read, with a warning."""
  path = write_lines(
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
  for part, line in (("halves of characters", 1), ("not UTF-8", 2), ("several fields 'text'", 3)):
    (message,) = (m for m in messages if part in m)
    assert message.startswith("1 JSON lines") and message.endswith(f"the first is {path}:{line}.")


def test_all_that_is_json_is_read(everything, write_lines):
  """Other fields may hold anything: only the text is used."""
  path = write_lines(
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
def test_other_forms_are_refused(error, write_lines, tmp_path, content, advice):
  """A file in which only a few lines are objects is refused."""
  write_lines({"text": "good"})
  path = write_lines(content.encode(), name="b c.jsonl")
  message = error(f"{tmp_path}/*.jsonl")
  assert message.startswith(f"{path}: ") and "lines are not JSON objects; line 1 is" in message
  assert advice in message and ("b c.jsonl'" in message or "gin" in advice)


def test_a_field_that_is_not_there(error, write_lines, cache):
  message = error(write_lines({"content": "a", "id": 1}, {"content": "b", "url": "u"}))
  assert "JSON_FIELD = 'text'" in message and "'content', 'id', 'url'" in message
  assert not [path for path in cache.glob("*") if path.is_dir()]


def test_a_field_that_is_not_there_is_noticed_early(error, write_lines, monkeypatch):
  monkeypatch.setattr(record_tally, "_PATIENCE", 10)
  message = error(write_lines(*({"content": "a"} for _ in range(50))))
  assert "a.jsonl:10 has that field" in message


def test_files_without_documents(error, write_lines):
  message = error(write_lines(b"plain text", b"more", name="a.txt"))
  assert "2 of the first 2 lines are not JSON objects" in message and '{"text": "..."}' in message
  assert "there are no lines" in error(write_lines(b"", name="b.txt"))
  assert "have no text in 'text'" in error(write_lines({"text": ["a", "b"]}, name="c.txt"))


@pytest.mark.parametrize("copy", [False, True])
def test_all_documents_held_out(write_lines, copy):
  path = write_lines({"text": "only"})
  with pytest.raises(ValueError, match="all 1 documents.*are held out.*VALIDATION_FRACTION"):
    corpora.Jsonl(path, validation_fraction=0.999999, copy=copy).source()
