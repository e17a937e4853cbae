"""Lines in parts: the documents, splits and line numbers are those of the whole files."""

import random

import pytest
import tensorflow as tf

from t5x_style.data import corpora
from t5x_style.data.corpora.reading import text_blocks, text_reading

pytest.importorskip("farmhash")


def test_lines_are_held_out_as_tensorflow_does():
  draw = random.Random(0)
  lines = [draw.randbytes(n) for n in (*range(1, 140), 999, 65_536) for _ in range(4)]
  buckets = tf.strings.to_hash_bucket_fast(lines, text_blocks.BUCKETS).numpy()
  expected = ["validation" if bucket < 300_000 else "train" for bucket in buckets]
  assert [text_blocks.split_of(line, 0.3) for line in lines] == expected
  assert 100 < expected.count("validation") < 250


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_parts_of_a_large_file(read_documents, write, numbered, tmp_path, monkeypatch, end):
  monkeypatch.setattr(text_blocks, "_PART_BYTES", 150_000)
  monkeypatch.setattr(text_reading, "LONGEST_DOCUMENT", 90_000)
  lines = [*numbered(3000), "", "x y " * 60_000, " ", "é" * 100_000, *numbered(900), "last"]
  write({"a.txt": "\ufeff" + end.join(lines), "b.txt": "short"})
  corpus = corpora.TextFiles(str(tmp_path), "line", validation_fraction=0.3)
  parts = corpus.parts()
  assert len(parts) > 4 and parts[-1].file.endswith("b.txt")
  documents = [document for part in parts for document in corpus.read(part)]
  with pytest.warns(UserWarning, match="read as several"):
    source = corpus.source()
    for split in ("train", "validation"):
      found = [document.text for document in documents if document.split == split]
      assert sorted(found) == sorted(read_documents(source, split))
  for document in documents[:-1]:
    assert document.text.decode() in lines[document.line - 1]
  assert {document.line for document in documents[:-1]} == {
    number for number, line in enumerate(lines, 1) if line.strip()
  }


def test_whole_files_are_documents_of_their_split(read_documents, many):
  corpus = corpora.TextFiles(str(many))
  found = [document for part in corpus.parts() for document in corpus.read(part)]
  source = corpus.source()
  for split in ("train", "validation"):
    texts = [document.text for document in found if document.split == split]
    assert texts == read_documents(source, split)
  assert all(document.line == 0 for document in found)
