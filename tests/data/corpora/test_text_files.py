"""The user's text files: patterns, what is held out, and every mistake one can make with them."""

import os
import shutil

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from t5x_style.data import corpora
from t5x_style.data.corpora import text_files, text_reading, text_sources
from t5x_style.errors import UserError


def write(folder, files):
  for name, text in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return folder


def texts(corpus, split="train", **options):
  dataset = corpus.source().get_dataset(split, **{"shuffle": False, **options})
  return [example["text"].decode() for example in dataset.as_numpy_iterator()]


@pytest.fixture
def many(tmp_path):
  return write(tmp_path / "many", {f"{i % 7}/{i:03d}.txt": f"text {i}\nmore" for i in range(200)})


def test_whole_files_are_read_as_they_are(tmp_path):
  text = "\ufeff a\r\nb\t\x00 é\n\n"
  write(tmp_path, {"a.txt": text, "b.txt": b"no \xff utf-8", "empty.txt": "", "[1].txt": "c"})
  corpus = corpora.TextFiles(f"{tmp_path}/*.txt", validation_fraction=0)
  dataset = corpus.source().get_dataset("train", shuffle=False)
  whole = text.removeprefix("\ufeff").encode()
  assert [e["text"] for e in dataset.as_numpy_iterator()] == [b"c", whole, b"no \xff utf-8"]
  assert list(corpus.source().splits) == ["train"]
  assert texts(corpora.TextFiles(f"{tmp_path}/[1].txt", validation_fraction=0)) == ["c"]


def test_lines_are_documents_and_blank_ones_are_none(tmp_path):
  write(tmp_path, {"a.txt": "one\n\n  two \r\n \t\nthree", "b.txt": "\n"})
  corpus = corpora.TextFiles(f"{tmp_path}/*.txt", "line", validation_fraction=0)
  assert texts(corpus) == ["one", "  two ", "three"]


def test_several_patterns_folders_below_and_the_home_folder(tmp_path, monkeypatch):
  write(tmp_path, {"a.txt": "a", "deep/er/b.txt": "b", "c.md": "c"})
  for pattern, expected in (
    (f"{tmp_path}/**/*.txt", ["a", "b"]),
    ((f"{tmp_path}/*.txt", f"{tmp_path}/*.md", f"{tmp_path}/a*"), ["a", "c"]),
    ([f"{tmp_path}/**"], ["a", "c", "b"]),
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
    patch.setattr(text_files, "_size", sizes.get)
    split = text_files.whole({"train": files}, fraction)
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


def test_large_files_are_sampled_at_both_ends_and_in_the_middle(tmp_path):
  file = tmp_path / "a"
  file.write_bytes(bytes(10**6))
  size = 10**6
  digests = {text_files.digest({"train": [str(file)]})}
  for place in (0, size // 2, size - 1):
    content = bytearray(size)
    content[place] = 1
    file.write_bytes(content)
    digests.add(text_files.digest({"train": [str(file)]}))
  assert len(digests) == 4


def test_the_state_of_an_iterator_over_many_files_is_small(tmp_path):
  names = [f"/some/folder/of/a/long/name/{i:06d}.txt" for i in range(20_000)]
  source = text_sources.WholeFiles({"train": names}, text_reading.Notices())
  dataset = source.get_dataset("train", seed=1)
  path = tf.train.Checkpoint(iterator=iter(dataset)).save(str(tmp_path / "state"))
  assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 20_000, path


def error(kind, *arguments, **options):
  with pytest.raises(kind) as raised:
    corpora.TextFiles(*arguments, **options).source()
  return str(raised.value)


def test_no_file_matches(tmp_path, monkeypatch):
  write(tmp_path, {"data/a.text": "a", "data/b.text": "b"})
  message = error(UserError, f"{tmp_path}/data/*.txt")
  assert "CORPUS_FILES" in message and f"{tmp_path}/data holds a.text, b.text" in message
  message = error(UserError, f"{tmp_path}/dat/x/*.txt")
  assert f"The folder {tmp_path} holds data" in message
  message = error(UserError, f"{tmp_path}/data")
  assert f"which is a folder; write '{tmp_path}/data/**/*.txt'" in message
  monkeypatch.chdir(tmp_path)
  assert f"that is {tmp_path}/date/*" in error(UserError, "date/*")
  message = error(UserError, "data/*", validation_pattern="data/*.val")
  assert "VALIDATION_FILES = 'data/*.val'" in message
  assert "names no file" in error(ValueError, ())


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
  write(tmp_path, {"a.txt": "a", "b.txt": "b"})
  (tmp_path / "c.txt").symlink_to(tmp_path / "gone")
  message = error(UserError, f"{tmp_path}/*.txt")
  assert f"{tmp_path}/c.txt" in message and "is a link to" in message
  (tmp_path / "c.txt").unlink()
  # Root, which may run this, can read everything.
  monkeypatch.setattr(text_files.os, "access", lambda path, _: not path.endswith("b.txt"))
  message = error(UserError, f"{tmp_path}/*.txt")
  assert f"{tmp_path}/b.txt" in message and "chmod" in message


def test_too_little_for_validation(tmp_path):
  write(tmp_path, {"a.txt": "a", "b.txt": "", "c.md": ""})
  message = error(ValueError, f"{tmp_path}/*.txt")
  for part in (f"{tmp_path}/a.txt", "VALIDATION_FILES", "CORPUS_DOCUMENTS = 'line'"):
    assert part in message
  assert "all files for train are empty" in error(ValueError, f"{tmp_path}/*.md")
  message = error(ValueError, f"{tmp_path}/*.txt", validation_pattern=f"{tmp_path}/*.txt")
  assert "nothing is left to train on" in message


def test_settings_that_cannot_be(many):
  assert "VALIDATION_FRACTION = 1" in error(ValueError, f"{many}/*/*", validation_fraction=1)
  assert "'lines' is neither" in error(ValueError, f"{many}/*/*", documents="lines")


def test_a_file_too_large_for_a_document(many, monkeypatch):
  monkeypatch.setattr(text_files, "LARGEST_DOCUMENT", 5)
  assert "CORPUS_DOCUMENTS = 'line'" in error(ValueError, f"{many}/*/*.txt")
  assert corpora.TextFiles(f"{many}/*/*.txt", "line").source()
