"""Every kind of corpus keeps the protocol: documents, splits, shards, saved positions."""

import gzip
import json
import subprocess
import sys

import pyarrow
import pytest
import seqio
import tensorflow as tf
from pyarrow import parquet

from t5x_style.data import corpora, iterator
from t5x_style.data.corpora import python_stdlib

KINDS = ("python_stdlib", "files", "lines", "jsonl", "copied", "parquet", "tfds")


def text_files(folder, count=30):
  folder.mkdir()
  for i in range(count):
    (folder / f"{i:02d}.txt").write_text(f"file {i}\n\n  line two of {i} \r\nline three of {i}")
  with gzip.open(folder / "compressed.txt.gz", "wt") as file:
    file.write("from a gzip\nfile")
  return str(folder / "*.txt*")


def json_lines(folder, field="text", count=90):
  folder.mkdir()
  for part in range(3):
    opener = gzip.open if part == 2 else open
    with opener(folder / f"{part}.jsonl{'.gz' if part == 2 else ''}", "wt") as file:
      for i in range(part, count, 3):
        file.write(json.dumps({field: f"document\n{i} é", "id": i}) + "\n")
  return str(folder / "*.jsonl*")


def make(kind, tmp_path, write_tfds):
  if kind == "files":
    return corpora.TextFiles(text_files(tmp_path / "texts"))
  if kind == "lines":
    return corpora.TextFiles(text_files(tmp_path / "texts"), documents="line")
  if kind in ("jsonl", "copied"):
    return corpora.Jsonl(json_lines(tmp_path / "json"), copy=kind == "copied")
  if kind == "parquet":
    texts = [f"document\n{i} é" for i in range(90)]
    for part in range(3):
      table = pyarrow.table({"id": range(30), "text": texts[part::3]})
      parquet.write_table(table, tmp_path / f"{part}.parquet", row_group_size=8)
    return corpora.Records(str(tmp_path / "*.parquet"))
  if kind == "tfds":
    write_tfds(tmp_path / "tfds")
    return corpora.Tfds("c4/en:3.0.1", str(tmp_path / "tfds"))
  return corpora.PythonStdlib()


@pytest.mark.parametrize("kind", KINDS)
def test_splits_are_disjoint_finite_and_in_the_same_order(
  read_documents, write_tfds, kind, tmp_path
):
  corpus = make(kind, tmp_path, write_tfds)
  train, validation = (read_documents(corpus.source(), split) for split in ("train", "validation"))
  assert train and validation
  if kind != "python_stdlib":  # it has files that are copies of each other
    assert not set(train) & set(validation)
  assert read_documents(corpus.source(), "train") == train
  assert read_documents(corpus.source(), "validation") == validation
  assert set(corpus.source().splits) == {"train", "validation"}


@pytest.mark.parametrize("kind", KINDS)
def test_iterators_can_be_checkpointed(write_tfds, kind, tmp_path):
  source = make(kind, tmp_path, write_tfds).source()

  def new():
    # As the training task reads it: the epoch is known, and decides on the order.
    def epoch(number):
      files = isinstance(source, seqio.FileDataSource)
      return source.get_dataset("train", shuffle=files, seed=number)

    epochs = tf.data.Dataset.range(1000).flat_map(epoch)
    return iter(iterator.with_options(epochs.shuffle(8, 0)))

  first = new()
  for _ in range(31):
    next(first)
  path = tf.train.Checkpoint(iterator=first).save(str(tmp_path / "state"))
  expected = [next(first)["text"].numpy() for _ in range(80)]
  second = new()
  tf.train.Checkpoint(iterator=second).restore(path).assert_consumed()
  assert [next(second)["text"].numpy() for _ in range(80)] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_shards_cover_the_split_once(read_documents, write_tfds, kind, tmp_path):
  source = make(kind, tmp_path, write_tfds).source()
  assert len(source.list_shards("train")) >= (1 if kind == "tfds" else 3)
  count = min(3, len(source.list_shards("train")))
  shards = [
    read_documents(source, "train", shard_info=seqio.ShardInfo(i, count)) for i in range(count)
  ]
  assert sorted(text for shard in shards for text in shard) == sorted(
    read_documents(source, "train")
  )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tfds"])
def test_shuffled_it_is_the_same_documents_in_an_order_of_the_seed(
  read_documents, write_tfds, kind, tmp_path
):
  source = make(kind, tmp_path, write_tfds).source()
  plain = read_documents(source, "train")
  orders = [read_documents(source, "train", shuffle=True, seed=seed) for seed in (1, 1, 2)]
  assert orders[0] == orders[1] != orders[2]
  assert all(sorted(order) == sorted(plain) for order in orders)
  assert orders[0] != plain


@pytest.mark.parametrize("kind", KINDS)
def test_parts_hold_the_documents_of_the_source(read_documents, write_tfds, kind, tmp_path):
  pytest.importorskip({"lines": "farmhash", "tfds": "google_crc32c"}.get(kind, "sys"))
  corpus = make(kind, tmp_path, write_tfds)
  parts = corpus.parts()
  documents = [document for part in parts for document in corpus.read(part)]
  # Pieces of work are made by the bytes of the parts.
  root = python_stdlib.folder() if kind == "python_stdlib" else tmp_path
  held = sum((root / file).stat().st_size for file in {part.file for part in parts})
  factor = 3 if kind == "parquet" else 1.01  # Parquet says its bytes before compression.
  assert held / factor <= sum(part.size for part in parts) <= held * factor
  for split in ("train", "validation"):
    found = [document.text for document in documents if document.split == split]
    assert sorted(found) == sorted(read_documents(corpus.source(), split))
  whole = kind in ("python_stdlib", "files")  # Each file is one document.
  assert all((document.line == 0) == whole for document in documents)
  # A token cache numbers the files of the parts.
  assert {document.file for document in documents} <= {part.file for part in corpus.parts()}


def test_parts_are_read_without_tensorflow(write, tmp_path):
  json_lines(tmp_path / "json")
  text_files(tmp_path / "texts", 3)
  parquet.write_table(pyarrow.table({"text": ["a", "b"]}), tmp_path / "a.parquet")
  program = f"""
import sys
from t5x_style.data import corpora
for corpus, count in (
  (corpora.Jsonl("{tmp_path}/json"), 90),
  (corpora.Records("{tmp_path}/a.parquet"), 2),
  (corpora.TextFiles("{tmp_path}/texts"), 4),
  (corpora.TextFiles("{tmp_path}/texts", "line", validation_fraction=0), 11),
):
  documents = [document for part in corpus.parts() for document in corpus.read(part)]
  assert len(documents) == count, (corpus, len(documents))
loaded = {{"tensorflow", "seqio", "jax", "tensorflow_datasets"}} & set(sys.modules)
assert not loaded, loaded
"""
  run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
  assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.parametrize("kind", KINDS)
def test_names_fit_seqio_and_fingerprints_stay(write_tfds, kind, tmp_path):
  corpus = make(kind, tmp_path, write_tfds)
  feature = seqio.Feature(seqio.ByteVocabulary())
  seqio.Task(f"{corpus.name}_x", corpus.source(), {"text": feature})
  assert corpus.fingerprint() == corpus.fingerprint()
  assert len(corpus.fingerprint()) == 64
