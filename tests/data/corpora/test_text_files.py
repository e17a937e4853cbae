"""Text files as a corpus: whole files and lines, what is held out, fingerprints, mistakes."""

import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t5x_style.data import corpora
from t5x_style.data.corpora import text_files
from t5x_style.data.corpora.reading import file_patterns, text_reading
from t5x_style.errors import UserError


def texts(corpus, split="train", **options):
  dataset = corpus.source().get_dataset(split, **{"shuffle": False, **options})
  return [example["text"].decode() for example in dataset.as_numpy_iterator()]


def test_whole_files_are_read_as_they_are(write, tmp_path):
  text = "\ufeff a\r\nb\t\x00 é\n\n"
  write({"a.txt": text, "b.txt": b"no \xff utf-8", "empty.txt": "", "[1].txt": "c"})
  corpus = corpora.TextFiles(f"{tmp_path}/*.txt", validation_fraction=0)
  dataset = corpus.source().get_dataset("train", shuffle=False)
  whole = text.removeprefix("\ufeff").encode()
  assert [e["text"] for e in dataset.as_numpy_iterator()] == [b"c", whole, b"no \xff utf-8"]
  assert list(corpus.source().splits) == ["train"]
  assert texts(corpora.TextFiles(f"{tmp_path}/[1].txt", validation_fraction=0)) == ["c"]


def test_lines_are_documents_and_blank_ones_are_none(write, tmp_path):
  write({"a.txt": "one\n\n  two \r\n \t\nthree", "b.txt": "\n"})
  corpus = corpora.TextFiles(f"{tmp_path}/*.txt", "line", validation_fraction=0)
  assert texts(corpus) == ["one", "  two ", "three"]


@pytest.mark.parametrize("documents", ["file", "line"])
def test_a_share_is_held_out_wherever_the_files_are(many, tmp_path, documents):
  corpus = corpora.TextFiles(f"{many}/**/*.txt", documents, validation_fraction=0.2)
  held_out = texts(corpus, "validation")
  assert 20 <= len(held_out) <= 60
  moved = shutil.copytree(many, tmp_path / "else" / "where")
  elsewhere = corpora.TextFiles(f"{moved}/**/*.txt", documents, validation_fraction=0.2)
  assert texts(elsewhere, "validation") == held_out
  assert elsewhere.fingerprint() == corpus.fingerprint()
  # More are held out, the ones that were stay.
  larger = corpora.TextFiles(f"{many}/**/*.txt", documents, validation_fraction=0.4)
  assert set(held_out) < set(texts(larger, "validation"))


@given(
  st.sets(st.text("abc/d", min_size=1, max_size=6).filter(lambda n: n.strip("/") == n), min_size=2),
  st.floats(0.001, 0.999),
)
def test_both_splits_have_a_file(names, fraction):
  files = [f"/some/where/{name}" for name in sorted(names)]
  sizes = dict.fromkeys(files, 1)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(file_patterns, "size", sizes.get)
    split = text_files.whole_files({"train": files}, fraction)
  assert split["train"] and split["validation"]
  assert sorted(split["train"] + split["validation"]) == files


def test_fingerprints_change_with_the_text(many):
  def fingerprint(**options):
    return corpora.TextFiles(f"{many}/**/*.txt", **options).fingerprint()

  first = fingerprint()
  os.utime(many / "0/000.txt", (0, 0))
  assert fingerprint() == first
  assert fingerprint(documents="line") != first
  assert fingerprint(validation_fraction=0.5) != first
  content = (many / "0/000.txt").read_bytes()
  (many / "0/000.txt").write_bytes(content[:-1] + b"!")
  changed = fingerprint()
  assert changed != first
  (many / "0/000.txt").write_bytes(content)
  assert fingerprint() == first
  (many / "0/000.txt").rename(many / "0/999.txt")
  assert fingerprint() not in (first, changed)


def error(*arguments, **options):
  with pytest.raises(UserError) as raised:
    corpora.TextFiles(*arguments, **options).source()
  return str(raised.value)


def test_too_little_for_validation(write, tmp_path):
  write({"a.txt": "a", "b.txt": "", "c.md": ""})
  message = error(f"{tmp_path}/*.txt")
  for part in (f"{tmp_path}/a.txt", "VALIDATION_FILES", "CORPUS_DOCUMENTS = 'line'"):
    assert part in message
  assert "all files for train are empty" in error(f"{tmp_path}/*.md")
  message = error(f"{tmp_path}/*.txt", validation_pattern=f"{tmp_path}/*.txt")
  assert "nothing is left to train on" in message


def test_settings_that_cannot_be(many):
  assert "VALIDATION_FRACTION = 1" in error(f"{many}/*/*", validation_fraction=1)
  assert "'lines' is neither" in error(f"{many}/*/*", documents="lines")


def test_a_file_too_large_for_a_document(many, monkeypatch):
  monkeypatch.setattr(text_reading, "LARGEST_DOCUMENT", 5)
  assert "CORPUS_DOCUMENTS = 'line'" in error(f"{many}/*/*.txt")
  assert corpora.TextFiles(f"{many}/*/*.txt", "line").source()


@pytest.mark.parametrize("kind", ["file", "line", "jsonl"])
def test_parts_name_their_files_from_the_root(tmp_path, monkeypatch, kind):
  """So that what a token cache says of its texts is true from any folder."""
  monkeypatch.chdir(tmp_path)
  for name in "ab":
    (tmp_path / name).write_text('{"text": "x"}\n')
  if kind == "jsonl":
    corpus = corpora.Jsonl("?", validation_fraction=0)
  else:
    corpus = corpora.TextFiles("?", documents=kind)
  found = corpus.parts()
  monkeypatch.chdir("/")
  documents = [document for part in found for document in corpus.read(part)]
  assert {x.file for x in documents} == {str(tmp_path / name) for name in "ab"}
