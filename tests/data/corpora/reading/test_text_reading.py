"""Every byte of a corpus of files is read, or the run ends with the file's name and the reason."""

import gzip
import json
import warnings

import pytest

from t5x_style.data import corpora
from t5x_style.data.corpora.reading import text_reading
from t5x_style.errors import UserError

# Within a line: what Python, Unicode or a terminal may take for the end of one, and what others do
# not keep. U+FEFF is a byte order mark at the start of a file only.
TEXTS = [
  "alpha\rbeta gamma",
  "10%\r20%\r\r100% done",
  "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i",
  "\0 nul \ufeff mark \ufffe \U0001f600 \ud7ff",
  "  spaces \t",
  "\u3000",
  "x" * 200_000,
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "the last line has no end"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_line_is_all_that_is_between_line_feeds(read_quietly, tmp_path, end, last, mark):
  lines = [*TEXTS, "", " ", *TEXTS]
  content = (mark + "".join(line + end for line in lines) + last).encode()
  (tmp_path / "a.txt").write_bytes(content)
  filled = [line.encode() for line in [*TEXTS, *TEXTS, last] if line]
  assert read_quietly(tmp_path / "a.txt") == filled
  assert read_quietly(tmp_path / "a.txt", "file") == [content.removeprefix(mark.encode())]


def test_every_form_reads_the_same_text(read_documents, read_quietly, tmp_path):
  (tmp_path / "lines.txt").write_bytes("\n".join(TEXTS).encode())
  (tmp_path / "lines.gz").write_bytes(gzip.compress("\n".join(TEXTS).encode()))
  for number, text in enumerate(TEXTS):
    (tmp_path / f"{number}.doc").write_bytes(text.encode())
  filled = [text for text in TEXTS if text.strip()]  # JSON lines of space are left out and counted
  (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in filled))
  expected = [text.encode() for text in TEXTS]
  assert read_quietly(tmp_path / "lines.txt") == read_quietly(tmp_path / "lines.gz") == expected
  assert read_quietly(tmp_path / "*.doc", "file") == expected
  records = corpora.Jsonl(str(tmp_path / "a.jsonl"), validation_fraction=0).source()
  assert sorted(read_documents(records)) == sorted(text.encode() for text in filled)


def test_gzip_data_is_known_by_its_bytes(read_quietly, compressed, numbered, tmp_path):
  lines = numbered(3000)
  members = compressed(lines[:1000]) + compressed([]) + compressed(lines[1000:]) + b"\0" * 512
  (tmp_path / "a.txt.gz").write_bytes(members)
  (tmp_path / "b.txt").write_bytes(members)
  expected = [line.encode() for line in lines]
  assert read_quietly(tmp_path / "a.txt.gz") == read_quietly(tmp_path / "b.txt") == expected
  assert (
    read_quietly(tmp_path / "?.txt*", "file") == [b"".join(line + b"\n" for line in expected)] * 2
  )


def test_what_is_named_gz_and_is_none(error_of, tmp_path):
  for content, what in ((b"some text\n", "holds no gzip data"), (b"", "is empty")):
    (tmp_path / "a.txt.gz").write_bytes(content)
    assert f"a.txt.gz: it is named .gz but {what}" in error_of(tmp_path / "a.txt.gz")


def test_remote_files_are_read_alike(read_quietly, error_of, compressed, numbered, tmp_path):
  """They are opened by URL, as files of buckets are."""
  lines = numbered(3000)
  (tmp_path / "a.txt").write_text("\ufeff" + "\r\n".join(lines))
  (tmp_path / "b.txt.gz").write_bytes(compressed(lines))
  expected = [line.encode() for line in lines]
  assert (
    read_quietly(f"file://{tmp_path}/a.txt") == read_quietly(f"file://{tmp_path}/b.*") == expected
  )
  assert len(read_quietly(f"file://{tmp_path}/*", "file")) == 2
  (tmp_path / "b.txt.gz").write_bytes(compressed(lines)[:-3])
  assert "b.txt.gz: its gzip data ends too early" in error_of(f"file://{tmp_path}/b.*")


LONG = ["x y " * 100_000, "a\rb" * 100_000, "天\r" * 100_000, "ascii " + "é" * 200_000]


@pytest.mark.parametrize("documents", ["line", "file", "gzip", "json"])
@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_long_texts_are_read_as_several_documents(
  read_documents, tmp_path, monkeypatch, documents, text
):
  """Parts limit the memory; no text is lost or changed."""
  monkeypatch.setattr(text_reading, "LONGEST_DOCUMENT", 100_000)
  content = (json.dumps({"text": text}) if documents == "json" else text).encode()
  file = tmp_path / "a.txt"
  file.write_bytes(gzip.compress(content) if documents == "gzip" else content)
  corpus = corpora.TextFiles(str(file), "line", validation_fraction=0)
  if documents == "file":
    corpus = corpora.TextFiles(str(file), "file", validation_fraction=0)
  if documents == "json":
    corpus = corpora.Jsonl(str(file), validation_fraction=0)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pieces = [piece.decode() for piece in read_documents(corpus.source())]  # each is UTF-8
  if documents != "json":  # Records of JSON files come in another order.
    assert "".join(pieces) == text
  assert sorted("".join(pieces)) == sorted(text) and len(pieces) > 1
  assert max(len(piece.encode()) for piece in pieces) < 200_000
  assert " " not in text or all(piece.endswith(" ") for piece in pieces[:-1]) or "é" in text
  (message,) = (str(warning.message) for warning in caught)
  assert str(file) in message and "read as several" in message


def test_texts_that_are_too_long_to_be_held(error_of, compressed, tmp_path, monkeypatch):
  monkeypatch.setattr(text_reading, "LARGEST_DOCUMENT", 100_000)
  (tmp_path / "b.gz").write_bytes(compressed(['{"text": "short"}', "x" * 200_000]))
  assert "b.gz: its text is larger than" in error_of(tmp_path / "b.gz", "file")
  with pytest.raises(UserError, match="b.gz: the line that begins before byte"):
    corpora.Jsonl(str(tmp_path / "b.gz")).source()
