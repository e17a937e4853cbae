"""The lengths of texts are counted in characters."""

import pytest

from t5x_style.data import corpora
from t5x_style.data.corpora.reading.text_lengths import Lengths
from t5x_style.errors import UserError


def test_characters_are_counted_and_not_bytes():
  lengths = Lengths(2, 3)
  assert [text for text in ("é", "éé", "ééé", "éééé") if text in lengths] == ["éé", "ééé"]
  assert "éé".encode() in lengths and b"\xff\xff" in lengths and "é".encode() not in lengths
  assert "" in Lengths() and "x" * 10**6 in Lengths(5)


@pytest.mark.parametrize("documents", ["line", "file"])
def test_documents_of_other_lengths_are_left_out(read_documents, write, tmp_path, documents):
  write({"a.txt": "aaa", "b.txt": "bb", "c.txt": "c", "d.txt": "dddd"})
  every = corpora.TextFiles(str(tmp_path / "*.txt"), documents, validation_fraction=0)
  corpus = corpora.TextFiles(
    str(tmp_path / "*.txt"), documents, None, 0, min_characters=2, max_characters=3
  )
  assert sorted(read_documents(corpus.source())) == [b"aaa", b"bb"]
  assert [d.text for part in corpus.parts() for d in corpus.read(part)] == [b"aaa", b"bb"]
  assert corpus.fingerprint() != every.fingerprint()


def test_lengths_that_exclude_each_other(write, tmp_path):
  write({"a.txt": "a", "b.txt": "b"})
  with pytest.raises(UserError, match="MAX_CHARACTERS = 3 is less than MIN_CHARACTERS = 4"):
    corpora.TextFiles(str(tmp_path), min_characters=4, max_characters=3).source()
