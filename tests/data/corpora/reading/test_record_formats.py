"""Formats are recognised by the first bytes of files, and the files of a folder by their names."""

import gzip
import json
import os

import pyarrow as pa
import pytest
import tensorflow as tf
from array_record.python import array_record_module
from pyarrow import ipc, parquet

from t5x_style.data import corpora
from t5x_style.data.corpora.reading import record_formats
from t5x_style.data.corpora.reading.columnar_files import Arrow, Parquet
from t5x_style.data.corpora.reading.json_lines import JsonLines
from t5x_style.data.corpora.reading.record_containers import ArrayRecords, TFRecords
from t5x_style.errors import UserError

pytest.importorskip("google_crc32c")
TABLE = pa.table({"text": ["one", "two"]})


def write_arrow(path, table=TABLE):
  """As Hugging Face's datasets write it."""
  with ipc.new_stream(path, table.schema) as writer:
    writer.write_table(table)


def write_feather(path):
  with ipc.new_file(path, TABLE.schema) as writer:
    writer.write_table(TABLE)


def write_tfrecord(path, options=None):
  with tf.io.TFRecordWriter(str(path), options) as writer:
    writer.write(b'{"text": "one"}')


def write_array_record(path):
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
  writer.write(b'{"text": "one"}')
  writer.close()


@pytest.mark.parametrize(
  ("write", "reader"),
  [
    (lambda path: parquet.write_table(TABLE, path), Parquet),
    (write_arrow, Arrow),
    (write_feather, Arrow),
    (write_tfrecord, TFRecords),
    (lambda path: write_tfrecord(path, "GZIP"), TFRecords),
    (write_array_record, ArrayRecords),
    (lambda path: path.write_text('{"text": "one"}'), JsonLines),
    (lambda path: path.write_bytes(gzip.compress(b'{"text": "one"}')), JsonLines),
    (lambda path: path.write_bytes(b""), JsonLines),
  ],
)
def test_formats_are_recognised_whatever_the_name(tmp_path, write, reader):
  write(tmp_path / "a")
  assert isinstance(record_formats.Readers().of(str(tmp_path / "a")), reader)


def saved_dataset(folder, shards=2):
  """A folder as `Dataset.save_to_disk` writes it, with a file that a later `map` left in it."""
  folder.mkdir(parents=True)
  names = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
  for name in names:
    write_arrow(folder / name, pa.table({"text": [f"{folder.name} {name[5:10]}"]}))
  write_arrow(folder / "cache-1234.arrow", pa.table({"text": ["mapped"]}))
  state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
  (folder / "state.json").write_text(json.dumps(state))
  (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))


def test_a_dataset_that_hugging_face_saved(read_documents, tmp_path):
  for split in ("train", "test"):
    saved_dataset(tmp_path / "mine" / split)
  (tmp_path / "mine" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
  corpus = corpora.Records(
    str(tmp_path / "mine" / "train"), validation_pattern=str(tmp_path / "mine" / "test")
  )
  assert read_documents(corpus.source()) == [b"train 00000", b"train 00001"]
  assert read_documents(corpus.source(), "validation") == [b"test 00000", b"test 00001"]
  with pytest.raises(UserError, match="the splits train, test: set CORPUS_FILES .*/mine/train'"):
    corpora.Records(str(tmp_path / "mine")).source()


def test_files_of_a_folder(write, tmp_path):
  used = (
    "a.jsonl", "b.json.zst", "c.parquet", "deep/d.tfrecord-00000-of-00002", "e.array_record",
    "f.tfrecords.gz", "g.arrow", "h.ndjson",
  )  # fmt: skip
  unused = ("README.md", "_SUCCESS", ".a.jsonl", "features.json", ".git/x.jsonl", "a.txt", "b.gz")
  write(dict.fromkeys([*used, *unused], "x"))
  corpus = corpora.Records(str(tmp_path))
  files = corpus._files().files["train"]
  assert [os.path.relpath(file, tmp_path) for file in files] == sorted(used)
  (tmp_path / "empty").mkdir()
  with pytest.raises(UserError, match="is a folder without such files"):
    corpora.Records(str(tmp_path / "empty")).source()
