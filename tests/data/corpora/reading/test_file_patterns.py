"""Patterns of file names: what they match, and the errors of wrong ones."""

import os

import pytest

from t5x_style.data import corpora
from t5x_style.data.corpora.reading import file_patterns
from t5x_style.errors import UserError


def texts(corpus, split="train", **options):
  dataset = corpus.source().get_dataset(split, **{"shuffle": False, **options})
  return [example["text"].decode() for example in dataset.as_numpy_iterator()]


def test_several_patterns_folders_below_and_the_home_folder(write, tmp_path, monkeypatch):
  write({"a.txt": "a", "deep/er/b.txt": "b", "c.md": "c"})
  for pattern, expected in (
    (f"{tmp_path}/**/*.txt", ["a", "b"]),
    ((f"{tmp_path}/*.txt", f"{tmp_path}/*.md", f"{tmp_path}/a*"), ["a", "c"]),
    ([f"{tmp_path}/**"], ["a", "c", "b"]),
    (str(tmp_path), ["a", "c", "b"]),
    ([f"{tmp_path}/deep/", f"{tmp_path}/c.md"], ["c", "b"]),
  ):
    assert texts(corpora.TextFiles(pattern, validation_fraction=0)) == expected
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.chdir(tmp_path / "deep")
  assert texts(corpora.TextFiles("~/*.md", validation_fraction=0)) == ["c"]
  assert texts(corpora.TextFiles("er/*", validation_fraction=0)) == ["b"]


def test_files_of_their_own_for_validation(many):
  corpus = corpora.TextFiles(f"{many}/**/*.txt", validation_pattern=f"{many}/3/*.txt")
  train, validation = texts(corpus), texts(corpus, "validation")
  assert len(train) + len(validation) == 200 and not set(train) & set(validation)
  assert len(validation) == 29
  lines = corpora.TextFiles(f"{many}/2/*", "line", validation_pattern=f"{many}/3/*.txt")
  assert set(texts(lines, "validation")) == {line for t in validation for line in t.split("\n")}


def error(*arguments, **options):
  with pytest.raises(UserError) as raised:
    corpora.TextFiles(*arguments, **options).source()
  return str(raised.value)


def test_no_file_matches(write, tmp_path, monkeypatch):
  write({"data/a.text": "a", "data/b.text": "b"})
  message = error(f"{tmp_path}/data/*.txt")
  assert "CORPUS_FILES" in message and f"{tmp_path}/data holds a.text, b.text" in message
  message = error(f"{tmp_path}/dat/x/*.txt")
  assert f"The folder {tmp_path} holds data" in message
  (tmp_path / "empty").mkdir()
  assert "which is a folder without such files" in error(f"{tmp_path}/empty")
  monkeypatch.chdir(tmp_path)
  assert f"that is {tmp_path}/date/*" in error("date/*")
  message = error("data/*", validation_pattern="data/*.val")
  assert "VALIDATION_FILES = 'data/*.val'" in message
  assert "names no file" in error(())


def test_a_file_that_cannot_be_read(write, tmp_path, monkeypatch):
  write({"a.txt": "a", "b.txt": "b"})
  (tmp_path / "c.txt").symlink_to(tmp_path / "gone")
  message = error(f"{tmp_path}/*.txt")
  assert f"{tmp_path}/c.txt" in message and "is a link to" in message
  (tmp_path / "c.txt").unlink()
  # Root, which may run this, can read everything.
  monkeypatch.setattr(file_patterns.os, "access", lambda path, _: not path.endswith("b.txt"))
  message = error(f"{tmp_path}/*.txt")
  assert f"{tmp_path}/b.txt" in message and "chmod" in message


def test_names_that_are_no_utf8(read_documents, tmp_path):
  """On Linux file names are bytes, not always UTF-8."""
  names = [os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9_%d" % i) for i in range(20)]
  for i, name in enumerate(names):
    with open(name, "w") as file:
      file.write(f'{{"text": "{i}"}}')
  for corpus in (
    corpora.TextFiles(f"{tmp_path}/*", validation_fraction=0.3),
    corpora.TextFiles(f"{tmp_path}/*", "line", validation_fraction=0.3),
    corpora.TextFiles(names, validation_pattern=names[3]),
    corpora.Jsonl(f"{tmp_path}/caf*", validation_fraction=0.3),
  ):
    source = corpus.source()
    train, validation = (
      read_documents(source, shuffle=True, seed=0),
      read_documents(source, "validation"),
    )
    assert train and validation and len({*train, *validation}) == 20
    assert len(corpus.fingerprint()) == 64
  with open(names[0], "wb") as file:
    file.write(b"PAR1\x15\x04")
  message = error(f"{tmp_path}/caf*")
  assert message.startswith(names[0]) and message.encode("utf-8", "backslashreplace")


def test_a_file_under_several_names_is_read_once(read_documents, tmp_path, monkeypatch):
  for i in range(4):
    (tmp_path / f"{i}.txt").write_text(f"text {i}")
  (tmp_path / "link.txt").symlink_to(tmp_path / "2.txt")
  monkeypatch.chdir(tmp_path)
  corpus = corpora.TextFiles(["*.txt", f"{tmp_path}/1.txt", "./0.txt"], validation_fraction=0)
  assert read_documents(corpus.source()) == [b"text 0", b"text 1", b"text 2", b"text 3"]
  corpus = corpora.TextFiles("*.txt", validation_pattern=[f"{tmp_path}/link.txt", "./3.txt"])
  assert read_documents(corpus.source()) == [b"text 0", b"text 1"]
  assert sorted(read_documents(corpus.source(), "validation")) == [b"text 2", b"text 3"]


def test_what_can_be_read_only_once_is_refused(tmp_path):
  os.mkfifo(tmp_path / "pipe.txt")
  assert "pipe.txt, matched by CORPUS_FILES, is a pipe" in error(f"{tmp_path}/*.txt")
