"""Parquet and Arrow: rows in order from any position, and damage named by row group and row."""

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from t5x_style.data import corpora
from t5x_style.data.corpora.reading.columnar_files import Arrow, Parquet
from t5x_style.data.corpora.reading.record_reader import Range
from t5x_style.data.corpora.reading.record_texts import Fields
from t5x_style.errors import UserError

TEXTS = [f"text {i} é" for i in range(100)]


def table(texts=TEXTS, kind=None, **columns):
  return pa.table({"id": range(len(texts)), "text": pa.array(texts, kind), **columns})


def write_parquet(path, content=None, rows=30):
  parquet.write_table(content or table(), path, row_group_size=rows)
  return str(path)


def write_stream(path, content=None, rows=30):
  content = content or table()
  with ipc.new_stream(path, content.schema) as writer:
    writer.write_table(content, max_chunksize=rows)
  return str(path)


def write_file(path, content=None, rows=30):
  content = content or table()
  with ipc.new_file(path, content.schema) as writer:
    writer.write_table(content, max_chunksize=rows)
  return str(path)


FORMATS = [(Parquet, write_parquet), (Arrow, write_stream), (Arrow, write_file)]


@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_rows_of_ranges_and_from_every_position(tmp_path, reader, write):
  file, reader = write(tmp_path / "a"), reader()
  ranges = reader.ranges(file, 1)
  assert len(ranges) == (4 if isinstance(reader, Parquet) else 1)
  assert all(where.size > 10 * len(TEXTS) / len(ranges) for where in ranges)
  records = [r for where in ranges for r in reader.records(file, where, Fields("text"))]
  assert [record.raw["text"].decode() for record in records] == TEXTS
  for start in range(0, 101, 7):
    rest = [record.raw for record in reader.records(file, Range(start, None), Fields("text"))]
    assert rest == [record.raw for record in records[start:]]
  some = reader.records(file, Range(25, 35), Fields("text", "id"))
  assert [(r.position, r.after, r.raw["id"]) for r in some] == [
    (i, i + 1, i) for i in range(25, 35)
  ]


@pytest.mark.parametrize(
  "kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
)
@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_columns_of_every_kind_of_text(tmp_path, reader, write, kind):
  file = write(tmp_path / "a", table(kind=kind))
  reader().check(file, Fields("text", "id"), "TEXT_FIELD")
  records = reader().records(file, Range(0, None), Fields("text"))
  assert [record.raw["text"].decode() for record in records] == TEXTS


def test_empty_and_missing_texts_and_bytes_that_are_no_text(read_documents, tmp_path):
  texts = ["a", None, "", "b"]
  latin = pa.array([b"caf\xe9", b"x", None, b"y"]).cast(pa.binary())
  write_parquet(tmp_path / "a.parquet", table(texts, body=latin))
  with pytest.warns(UserWarning, match="2 of 4 rows are left out: 1 have no text in"):
    corpus = corpora.Records(str(tmp_path), validation_fraction=0)
    assert read_documents(corpus.source()) == [b"a", b"b"]
  with pytest.warns(UserWarning, match=r"1 rows have bytes .*UTF-8.* row 1 \(in row group 0"):
    corpus = corpora.Records(str(tmp_path), "body", validation_fraction=0)
    assert read_documents(corpus.source()) == ["caf\ufffd".encode(), b"x", b"y"]


@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_columns_that_hold_no_text(tmp_path, reader, write):
  write(tmp_path / "a.parquet", table(other=TEXTS))
  for field, what in (("body", "does not exist"), ("id", "holds int64 and no text")):
    with pytest.raises(UserError) as raised:
      corpora.Records(str(tmp_path / "a*"), field).source()
    assert f"a.parquet: the column TEXT_FIELD = {field!r} {what}. Columns with" in str(raised.value)
    assert "'text', 'other'; set TEXT_FIELD" in str(raised.value)
  write(tmp_path / "b.parquet", pa.table({"body": TEXTS}))  # One file has other columns.
  with pytest.raises(UserError, match="b.parquet: the column TEXT_FIELD = 'text' does not exist"):
    corpora.Records(str(tmp_path)).source()
  with pytest.raises(UserError, match="column TARGET_FIELD = 'label' does not exist"):
    corpora.Records(str(tmp_path / "a*"), target_field="label").source()


def test_damage_is_named_by_row_group_and_row(tmp_path):
  texts = [f"{i} " * 500 for i in range(3000)]
  file = write_parquet(tmp_path / "a.parquet", table(texts), rows=1000)
  offset = parquet.ParquetFile(file).metadata.row_group(1).column(1).data_page_offset
  content = bytearray((tmp_path / "a.parquet").read_bytes())
  content[offset : offset + 400] = bytes(400)
  (tmp_path / "a.parquet").write_bytes(content)
  records = Parquet().records(file, Range(0, None), Fields("text"))
  with pytest.raises(UserError, match=r"a.parquet, row group 1, after row 1,\d\d\d: the data"):
    list(records)
  assert len(list(Parquet().records(file, Range(2000, None), Fields("text")))) == 1000


@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_a_file_that_was_cut(tmp_path, reader, write):
  write(tmp_path / "a.parquet")
  content = (tmp_path / "a.parquet").read_bytes()
  (tmp_path / "a.parquet").write_bytes(content[: len(content) // 2])
  corpus = corpora.Records(str(tmp_path / "a.parquet"))
  with pytest.raises(UserError, match="a.parquet.*: the data is damaged .*Get the file again"):
    corpus.source()
