"""Files of other protocols, tried with fsspec's files in memory and with file://."""

import fsspec
import pytest

from t5x_style.data import corpora
from t5x_style.data.corpora.reading import remote_files
from t5x_style.errors import UserError


@pytest.fixture
def bucket():
  """Writes files into memory: {name: bytes}."""
  memory = fsspec.filesystem("memory")
  memory.store.clear()

  def write(files):
    for name, content in files.items():
      memory.pipe(f"/bucket/{name}", content)
    return "memory://bucket"

  yield write
  memory.store.clear()


def test_patterns_and_folders(bucket, read_documents):
  url = bucket({"a.txt": b"a", "deep/b.txt": b"b", "c.md": b"c", ".git/d.txt": b"d"})
  for pattern, expected in (
    (f"{url}/*.txt", [b"a"]),
    ([f"{url}/**/*.txt"], [b"a", b"b", b"d"]),
    (url, [b"a", b"c", b"b"]),
    (f"{url}/deep/b.txt", [b"b"]),
  ):
    source = corpora.TextFiles(pattern, validation_fraction=0).source()
    assert sorted(read_documents(source)) == sorted(expected)


def test_what_is_written_again_has_another_version(bucket):
  file = bucket({"a.txt": b"text"}) + "/a.txt"
  first = remote_files.status(file)
  assert first.size == 4 and remote_files.status(file) == first
  bucket({"a.txt": b"texT"})
  assert remote_files.status(file) != first


def test_offsets(bucket):
  with remote_files.open_file(bucket({"a": bytes(range(200))}) + "/a") as file:
    file.seek(100)
    assert file.read(3) == bytes([100, 101, 102]) and file.tell() == 103


def test_mistakes(bucket, monkeypatch):
  url = bucket({"a.txt": b"text"})
  with pytest.raises(UserError, match="no file matches CORPUS_FILES = .*; check the name of the"):
    corpora.TextFiles(f"{url}/*.text").source()
  with pytest.raises(UserError, match="abc:// is no protocol that can be read"):
    corpora.TextFiles("abc://bucket/*").source()
  with pytest.raises(UserError, match="chains protocols"):
    corpora.TextFiles("simplecache::s3://bucket/*").source()
  with pytest.raises(FileNotFoundError):
    remote_files.status(f"{url}/b.txt")

  def refuse(*arguments, **options):
    raise RuntimeError("no credentials")

  monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "glob", refuse)
  with pytest.raises(UserError, match=r"cannot be listed \(RuntimeError: no credentials\)"):
    corpora.TextFiles(f"{url}/*.txt").source()


def test_a_package_that_is_missing_is_named(monkeypatch):
  def missing(url):
    raise ImportError("Install s3fs to access S3")

  monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
  with pytest.raises(UserError, match=r"s3://.* is not installed .*pip install 't5x_style\[s3\]'"):
    corpora.Jsonl("s3://bucket/*.jsonl").source()
