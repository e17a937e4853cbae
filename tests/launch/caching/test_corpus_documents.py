"""A corpus is cut into pieces of work that hold each document once."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from launch.caching import corpus_documents
from t5x_style.data import corpora
from tests.launch.caching.listed_corpus import ListedCorpus

ROOT = Path(__file__).parents[3]


def read_all(documents):
  return [x for piece in documents.pieces() for x in documents.read(piece)]


def test_parts_of_a_corpus_become_pieces(tmp_path, monkeypatch):
  documents = corpus_documents.of(
    ListedCorpus(tuple(("train", f"{i}".encode(), None) for i in range(20)))
  )
  (piece,) = documents.pieces()
  assert piece.files == ("file0", "file1", "file2") and len(piece.places) == 5
  found = list(documents.read(piece))
  assert [(b"".join(x.texts), x.file, x.line) for x in found] == [
    (f"{i}".encode(), f"file{i // 4 * 4 % 3}", i + 1) for i in range(20)
  ]
  monkeypatch.setattr(corpus_documents, "_PIECE_BYTES", 2)
  assert [len(piece.places) for piece in documents.pieces()] == [2, 2, 1]
  assert read_all(documents) == found
  assert not corpus_documents.have_targets(documents, documents.pieces())


def test_pieces_have_about_the_requested_bytes_where_positions_are_rows(tmp_path, monkeypatch):
  texts = [f"text {i} " * 10 for i in range(100)]
  for name in "abc":
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / f"{name}.parquet")
  documents = corpus_documents.of(corpora.Records(str(tmp_path / "*.parquet")))
  (piece,) = documents.pieces()
  assert piece.size > 3 * sum(map(len, texts)) / 10  # It is compressed or a dictionary at most.
  monkeypatch.setattr(corpus_documents, "_PIECE_BYTES", piece.size // 3)
  assert [len(one.places) for one in documents.pieces()] == [1, 1, 1]


@pytest.mark.slow  # It imports TensorFlow.
def test_a_corpus_with_only_a_source(tmp_path, monkeypatch):
  class Plain:
    """JSON lines without parts."""

    name = "plain"

    def __init__(self, corpus):
      self.source = corpus.source

  (tmp_path / "a.jsonl").write_text(
    "\n".join(json.dumps({"text": f"text {i}"}) for i in range(200))
  )
  corpus = corpora.Jsonl(str(tmp_path / "a.jsonl"), cache_dir=str(tmp_path / "cache"))
  documents = corpus_documents.of(Plain(corpus))
  assert isinstance(documents, corpus_documents.OfSource)
  found = read_all(documents)
  assert sorted(b"".join(x.texts) for x in found) == sorted(
    f"text {i}".encode() for i in range(200)
  )
  assert {x.split for x in found} == {"train", "validation"}
  assert len({(x.split, x.line) for x in found}) == 200


def test_examples_of_one_document_are_joined():
  examples = [
    {"text": b"a", "document": 0},
    {"text": b"b", "document": 0},
    {"text": b"c", "document": 1},
    {"text": b"d"},
    {"text": b"e"},
  ]
  found = corpus_documents._joined("train", "x", iter(examples))
  assert [(x.texts, x.line) for x in found] == [
    ([b"a", b"b"], 1),
    ([b"c"], 3),
    ([b"d"], 4),
    ([b"e"], 5),
  ]


def test_workers_need_no_tensorflow(tmp_path):
  """So they start in a second, and take little memory."""
  (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
  program = f"""
import sys
from launch.caching import corpus_documents, steps
from t5x_style.data import corpora
documents = corpus_documents.of(corpora.Jsonl({str(tmp_path / "a.jsonl")!r}))
assert sum(1 for piece in documents.pieces() for _ in documents.read(piece)) == 2
assert not {{"tensorflow", "seqio", "jax", "gin"}} & set(sys.modules)
"""
  run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
  assert run.returncode == 0, run.stderr[-500:]
