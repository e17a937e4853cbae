"""TFRecord and ArrayRecord: what others wrote is read, and damage is named by its place."""

import gzip
import json
import os

import pytest
import tensorflow as tf
from array_record.python import array_record_module

from t5x_style.data import corpora
from t5x_style.data.corpora.reading.record_containers import ArrayRecords, TFRecords
from t5x_style.data.corpora.reading.record_reader import Range
from t5x_style.data.corpora.reading.record_texts import Fields
from t5x_style.errors import UserError

pytest.importorskip("google_crc32c")
FIELDS = Fields("text")
TEXTS = [f"text {i} é".encode() * (i % 40) or b"x" for i in range(200)]


def example(text, label=1):
  features = {
    "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[text])),
    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    "several": tf.train.Feature(bytes_list=tf.train.BytesList(value=[text, text])),
  }
  return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_tfrecord(path, records):
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in records:
      writer.write(record)
  return str(path)


def write_array_record(path, records):
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:8")
  for record in records:
    writer.write(record)
  writer.close()
  return str(path)


FORMATS = [(TFRecords, write_tfrecord), (ArrayRecords, write_array_record)]


@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_examples_and_json_from_every_position(tmp_path, reader, write):
  raw = [
    example(t) if i % 2 else json.dumps({"text": t.decode()}).encode() for i, t in enumerate(TEXTS)
  ]
  file, reader = write(tmp_path / "a.records", raw), reader()
  ranges = reader.ranges(file, os.path.getsize(file) // 3)
  assert sum(where.size for where in ranges) == pytest.approx(os.path.getsize(file), rel=0.01)
  records = [record for where in ranges for record in reader.records(file, where, FIELDS)]
  assert [record.raw for record in records] == raw
  numbers = [reader.number(file, record.position) for record in records[::50]]
  assert numbers == [1, 51, 101, 151]
  rest = list(reader.records(file, Range(records[120].after, None), FIELDS))
  assert rest == records[121:]
  examples = [reader.example(record.raw, Fields("text", "label"), print) for record in records]
  assert [e["text"] for e in examples] == [t if i % 2 else t.decode() for i, t in enumerate(TEXTS)]
  assert examples[1]["label"] == 1


@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_as_a_corpus(read_documents, tmp_path, reader, write):
  del reader
  write(tmp_path / "a.tfrecord-00000-of-00001", [example(text) for text in TEXTS])
  corpus = corpora.Records(str(tmp_path), target_field="label", validation_fraction=0)
  source = corpora.Records(str(tmp_path), validation_fraction=0).source()
  assert sorted(read_documents(source)) == sorted(TEXTS)
  assert corpus.targets() == {"train": {"1": 200}}
  with pytest.raises(UserError, match="TEXT_FIELD = 'body': no .*'label', 'several', 'text'"):
    corpora.Records(str(tmp_path), "body").source()
  with pytest.raises(UserError, match="200 records have no text in 'several'"):
    corpora.Records(str(tmp_path), "several").source()


@pytest.mark.parametrize(("reader", "write"), FORMATS)
def test_records_of_something_else(tmp_path, reader, write):
  del reader
  write(tmp_path / "a", [b"\xff\xfe\xfd", b"plain text", b""] * 3)
  with pytest.raises(UserError, match="9 of the first 9 records are not tf.train.Examples or JSON"):
    corpora.Records(str(tmp_path / "a")).source()


def test_compressed_records(read_documents, tmp_path):
  write_tfrecord(tmp_path / "a", [example(text) for text in TEXTS])
  content = (tmp_path / "a").read_bytes()
  (tmp_path / "a.tfrecord.gz").write_bytes(gzip.compress(content) + gzip.compress(content))
  corpus = corpora.Records(str(tmp_path / "*.gz"), validation_fraction=0)
  assert read_documents(corpus.source()) == [*TEXTS, *TEXTS]


def test_damaged_tfrecords(tmp_path):
  file = write_tfrecord(tmp_path / "a", [example(text) for text in TEXTS])
  records = list(TFRecords().records(file, Range(0, None), FIELDS))
  content, start = (tmp_path / "a").read_bytes(), records[150].position

  def message(changed):
    (tmp_path / "a").write_bytes(changed)
    with pytest.raises(UserError) as raised:
      list(TFRecords().records(file, Range(0, None), FIELDS))
    return str(raised.value)

  for offset, what in ((3, "the checksum of its length differs"), (20, "its checksum differs")):
    flipped = bytearray(content)
    flipped[start + offset] ^= 1
    assert f"a: the record at byte {start:,} is damaged: {what}" in message(flipped)
  for end in (5, 30):
    assert f"the record at byte {start:,} ends too early" in message(content[: start + end])


def test_damaged_array_records(tmp_path):
  file = write_array_record(tmp_path / "a", [os.urandom(5000) for _ in range(100)])
  content = bytearray((tmp_path / "a").read_bytes())
  content[len(content) // 2] ^= 1
  (tmp_path / "a").write_bytes(content)
  with pytest.raises(UserError, match="a, record 1 or one of the .* after it: it cannot be read"):
    list(ArrayRecords().records(file, Range(0, None), FIELDS))
  (tmp_path / "a").write_bytes(content[:-100])
  with pytest.raises(UserError, match="a: its end is missing or damaged. Get the file again"):
    ArrayRecords().ranges(file, 1000)
