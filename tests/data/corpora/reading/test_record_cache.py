"""A cache of records is complete or absent, whatever happened to its files."""

import json
import multiprocessing
import os
import warnings

import pytest
import tensorflow as tf

from t5x_style.data.corpora.reading import record_cache
from t5x_style.errors import UserError

SHARDS = {"train": 3, "validation": 2}


def build(writer):
  for i in range(10):
    writer.add("train", b"document %d " % i * 20)
  writer.add("validation", b"")
  return {"note": 1}


def must_not_build(writer):
  raise AssertionError("the cache was whole")


def texts(records, split="train"):
  dataset = records.source().get_dataset(split, shuffle=False)
  return sorted(example["text"] for example in dataset.as_numpy_iterator())


def open_quietly(root, name="c", build=must_not_build):
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    return record_cache.open_or_build(root, name, SHARDS, build)


def test_what_was_added_is_read(tmp_path):
  records = open_quietly(tmp_path / "new" / "folder", build=build)
  assert texts(records) == sorted(b"document %d " % i * 20 for i in range(10))
  assert texts(records, "validation") == [b""]
  assert records.documents == {"train": 10, "validation": 1}
  assert records.facts == {"note": 1}
  assert [len(records.source().list_shards(split)) for split in SHARDS] == [3, 2]
  assert records.source().num_input_examples("train") == 10
  again = open_quietly(tmp_path / "new" / "folder")
  assert again == records


def test_the_content_is_that_of_the_documents(tmp_path):
  def other(writer):
    writer.add("train", b"other")

  one = open_quietly(tmp_path, "one", build)
  same = open_quietly(tmp_path, "two", build)
  different = open_quietly(tmp_path, "three", other)
  assert one.content == same.content != different.content


def truncate(folder):
  file = next(folder.glob("train-*"))
  os.truncate(file, file.stat().st_size - 1)


def delete(folder):
  next(folder.glob("validation-*")).unlink()


def flip_a_bit(folder):
  file = sorted(folder.glob("train-*"))[-1]
  content = bytearray(file.read_bytes())
  content[len(content) // 2] ^= 1
  file.write_bytes(content)


def empty_the_manifest(folder):
  (folder / "manifest.json").write_text("")


def change_the_manifest(folder):
  (folder / "manifest.json").write_text(json.dumps({"format": 1, "splits": []}))


def remove_the_manifest(folder):
  (folder / "manifest.json").unlink()


DAMAGES = (
  truncate,
  delete,
  flip_a_bit,
  empty_the_manifest,
  change_the_manifest,
  remove_the_manifest,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_noticed_and_repaired(tmp_path, damage):
  records = open_quietly(tmp_path, build=build)
  expected = texts(records)
  damage(tmp_path / "c")
  with pytest.warns(UserWarning, match="is damaged"):
    repaired = record_cache.open_or_build(tmp_path, "c", SHARDS, build)
  assert repaired == records
  assert texts(repaired) == expected
  open_quietly(tmp_path)
  assert not list(tmp_path.glob(".c.*.tmp"))


def test_an_older_format_is_replaced(tmp_path, monkeypatch):
  open_quietly(tmp_path, build=build)
  monkeypatch.setattr(record_cache, "_FORMAT", 2)
  assert texts(open_quietly(tmp_path, build=build))
  open_quietly(tmp_path)


def test_a_build_that_fails_leaves_nothing(tmp_path):
  def fail(writer):
    writer.add("train", b"half")
    raise ValueError("no more")

  with pytest.raises(ValueError, match="no more"):
    open_quietly(tmp_path, build=fail)
  assert [path.name for path in tmp_path.iterdir()] == [".c.lock"]
  assert len(texts(open_quietly(tmp_path, build=build))) == 10


def test_what_a_killed_process_left_is_removed_a_day_later(tmp_path):
  for name, age in ((".c.old.tmp", 2 * 86_400), (".c.new.tmp", 60)):
    (tmp_path / name).mkdir()
    (tmp_path / name / "train-0").write_text("half")
    then = (tmp_path / name).stat().st_mtime - age
    os.utime(tmp_path / name, (then, then))
  open_quietly(tmp_path, build=build)
  assert sorted(path.name for path in tmp_path.iterdir()) == [".c.lock", ".c.new.tmp", "c"]


def test_a_folder_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="T5X_STYLE_CACHE.*cache_dir") as raised:
    open_quietly(tmp_path / "file", build=build)
  assert str(tmp_path / "file" / "c") in str(raised.value)


def test_a_whole_cache_is_read_from_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
  open_quietly(tmp_path, build=build)

  def refuse(*_, **__):
    raise PermissionError("read-only file system")

  monkeypatch.setattr(record_cache, "_lock", refuse)
  assert len(texts(open_quietly(tmp_path))) == 10


def test_the_folder_comes_from_the_environment(monkeypatch, tmp_path):
  monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "mine"))
  assert record_cache.default_root() == tmp_path / "mine"
  monkeypatch.delenv("T5X_STYLE_CACHE")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
  assert record_cache.default_root() == tmp_path / "xdg" / "t5x_style" / "text"
  monkeypatch.delenv("XDG_CACHE_HOME")
  monkeypatch.setenv("HOME", str(tmp_path / "home"))
  assert record_cache.default_root() == tmp_path / "home" / ".cache" / "t5x_style" / "text"


def _open_at_once(root, start, results):
  def slow(writer):
    results.put("built")
    build(writer)
    return {"note": 1}

  start.wait()
  results.put(texts(record_cache.open_or_build(root, "c", SHARDS, slow)))


@pytest.mark.slow
def test_two_processes_at_once_build_it_once(tmp_path):
  context = multiprocessing.get_context("spawn")
  start, results = context.Barrier(2), context.Queue()
  workers = [
    context.Process(target=_open_at_once, args=(str(tmp_path), start, results)) for _ in range(2)
  ]
  for worker in workers:
    worker.start()
  found = [results.get(timeout=120) for _ in range(3)]
  for worker in workers:
    worker.join(timeout=60)
    assert worker.exitcode == 0
  assert found.count("built") == 1
  found.remove("built")
  assert found[0] == found[1] and len(found[0]) == 10
  assert sorted(path.name for path in tmp_path.iterdir()) == [".c.lock", "c"]


def test_without_locks_the_last_of_two_builders_keeps_the_first_ones_cache(tmp_path, monkeypatch):
  """Two machines may share a folder: both build, one finishes first."""
  first = []

  def build_while_another_finishes(writer):
    if not first:
      first.append(True)
      first.append(record_cache._build(tmp_path / "c", SHARDS, build))
      first.append(os.stat(tmp_path / "c").st_ino)
    return build(writer)

  records = record_cache._build(tmp_path / "c", SHARDS, build_while_another_finishes)
  assert records == first[1]
  assert os.stat(tmp_path / "c").st_ino == first[2]
  assert not list(tmp_path.glob(".c.*.tmp"))


def test_large_caches_are_checked_by_size_only(tmp_path, monkeypatch):
  open_quietly(tmp_path, build=build)
  monkeypatch.setattr(record_cache, "_CHECKSUM_BYTES", 0)
  flip_a_bit(tmp_path / "c")
  records = open_quietly(tmp_path)
  with pytest.raises(tf.errors.DataLossError):  # TensorFlow's own checksum, when it is read
    texts(records)
  truncate(tmp_path / "c")
  with pytest.warns(UserWarning, match="is damaged"):
    record_cache.open_or_build(tmp_path, "c", SHARDS, build)
