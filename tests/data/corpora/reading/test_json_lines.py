"""JSON lines in ranges: each line once, with its number, whatever its length and the ranges are."""

import bz2
import gzip
import json
import lzma

import pytest

from t5x_style.data import corpora
from t5x_style.data.corpora.reading.json_lines import JsonLines
from t5x_style.data.corpora.reading.record_reader import Range
from t5x_style.data.corpora.reading.record_texts import Fields

FIELDS = Fields("text")


@pytest.mark.parametrize("size", [7, 100, 999, 65_536])
@pytest.mark.parametrize("end", ["", "\n"])
def test_every_line_is_in_one_range(tmp_path, size, end):
  lines = [json.dumps({"text": "x" * n}) for n in (0, 1, 50, 0, 3000, 2, 700, 5)]
  content = "\ufeff" + "\n".join([*lines[:3], "", *lines[3:]]) + end
  file = tmp_path / "a.jsonl"
  file.write_text(content, encoding="utf-8")
  reader = JsonLines()
  ranges = reader.ranges(str(file), size)
  assert sum(where.size for where in ranges) == file.stat().st_size
  records = [record for where in ranges for record in reader.records(str(file), where, FIELDS)]
  assert b"".join(record.raw for record in records) == content.encode()[3:]
  numbers = [reader.number(str(file), record.position) for record in records]
  assert numbers == list(range(1, len(records) + 1))
  # Reading may resume after any record.
  for record, rest in zip(records, range(1, len(records) + 1), strict=True):
    after = reader.records(str(file), Range(record.after, None), FIELDS)
    assert list(after) == records[rest:]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_with_several_members(read_documents, tmp_path, pack):
  members = [
    b"".join(b'{"text": "%d %d"}\n' % (member, i) for i in range(999)) for member in range(3)
  ]
  (tmp_path / "a.jsonl").write_bytes(b"".join(map(pack, members)))
  corpus = corpora.Jsonl(str(tmp_path / "a.jsonl"), validation_fraction=0)
  expected = [b"%d %d" % (member, i) for member in range(3) for i in range(999)]
  assert read_documents(corpus.source()) == expected
  (part,) = corpus.parts()
  assert [(d.text, d.line) for d in corpus.read(part)][1500] == (expected[1500], 1501)


def test_documents_of_five_megabytes_and_of_one_byte(read_documents, write_lines):
  large = "many words " * 480_000
  path = write_lines({"text": "a"}, {"text": large}, {"text": "b"})
  corpus = corpora.Jsonl(path, validation_fraction=0)
  assert [d.text for part in corpus.parts() for d in corpus.read(part)] == [
    b"a",
    large.encode(),
    b"b",
  ]
  with pytest.warns(UserWarning, match="JSON lines have a long text, which is read as several"):
    pieces = read_documents(corpus.source())
  assert pieces[0] == b"a" and pieces[-1] == b"b" and len(pieces) == 4
  assert b"".join(pieces[1:-1]) == large.encode()


def test_a_place_is_a_line(write_lines):
  path = write_lines(*({"text": "x" * i} for i in range(50)))
  reader = JsonLines()
  (where,) = reader.ranges(path, 10**6)
  record = list(reader.records(path, where, FIELDS))[20]
  assert reader.place(path, record.position) == f"{path}:21"
