"""The corpus of the running Python's standard library."""

import pytest

from t5x_style.data import corpora
from t5x_style.data.corpora import python_stdlib
from t5x_style.errors import UserError


def test_the_standard_library(read_documents, tmp_path):
  source = corpora.PythonStdlib(cache_dir=str(tmp_path / "own")).source()
  assert (tmp_path / "own").is_dir() and not (tmp_path / "cache").exists()
  train, validation = (read_documents(source, split) for split in ("train", "validation"))
  everything = {*train, *validation}
  base = python_stdlib.folder()
  for path in ("dataclasses.py", "json/__init__.py", "email/architecture.rst", "turtle.py"):
    assert (base / path).read_bytes() in everything
  assert len(train) + len(validation) > 500
  assert sum(map(len, train)) > 10e6
  assert 0.02 < len(validation) / len(train) < 0.1
  for text in train + validation:
    assert text.decode("utf-8").strip()
  assert len(source.list_shards("train")) == 32


def test_a_file_of_the_standard_library_stays_in_its_split():
  """The split of a file is the same on every machine: these values are literal."""
  held_out = [i for i in range(150) if python_stdlib.split_of(f"test/test_{i}.py") == "validation"]
  assert held_out == [0, 1, 4, 21, 79, 102, 105, 116, 124]
  more = [i for i in range(150) if python_stdlib.split_of(f"test/test_{i}.py", 20) == "validation"]
  assert set(held_out) < set(more) and 20 < len(more) < 40


def test_a_standard_library_without_sources(tmp_path, monkeypatch):
  monkeypatch.setattr(python_stdlib, "folder", lambda: tmp_path)
  with pytest.raises(UserError, match="no source files in .*text_files.gin"):
    corpora.PythonStdlib().source()
