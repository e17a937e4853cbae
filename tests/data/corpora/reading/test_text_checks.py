"""Files are checked before training: damage, other formats and wrong bytes, each with its file."""

import bz2
import gzip
import warnings

import pytest

from t5x_style.data import corpora, iterator
from t5x_style.data.corpora.reading import text_checks
from t5x_style.errors import UserError


def cut(content):
  return content[: len(content) // 2]


def cut_in_the_trailer(content):
  return content[:-3]


def flip(content):
  changed = bytearray(content)
  changed[len(content) // 2] ^= 0x55
  return bytes(changed)


def append(content):
  return content + b"more text"


@pytest.mark.parametrize("documents", ["line", "file"])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("damage", [cut, cut_in_the_trailer, flip, append])
def test_damaged_gzip_data(compressed, numbered, tmp_path, monkeypatch, damage, at_once, documents):
  """Data within the limit is checked at the start, other data when tf.data reads it."""
  (tmp_path / "good.gz").write_bytes(compressed(numbered(10)))
  (tmp_path / "bad").write_bytes(damage(compressed(numbered(5000))))
  corpus = corpora.TextFiles(f"{tmp_path}/*d*", documents, validation_fraction=0)
  if at_once:
    with pytest.raises(UserError) as raised:
      corpus.source()
  else:
    monkeypatch.setattr(text_checks, "_UNPACKED_BYTES", 0)
    dataset = corpus.source().get_dataset("train", seed=0)
    stream = iterator.Stream(iterator.with_options(dataset.shuffle(8).batch(2).prefetch(2)))
    with pytest.raises(UserError) as raised:
      for _ in range(10_000):
        next(stream)
  message = str(raised.value)
  assert message.startswith(f"{tmp_path}/bad: its gzip data ")
  assert f"gzip -t {tmp_path}/bad " in message and "good.gz" not in message


@pytest.mark.parametrize(("pack", "at_once"), [(gzip.compress, True), (bz2.compress, False)])
def test_slow_formats_are_unpacked_less_at_the_start(tmp_path, monkeypatch, pack, at_once):
  """A bzip2 file is read for minutes where a gzip file of its size takes seconds."""
  data = pack(b"".join(b"line %d\n" % i for i in range(200_000)))  # 2.5 MB, several blocks
  (tmp_path / "cut.txt").write_bytes(data[: len(data) * 3 // 4])
  monkeypatch.setattr(text_checks, "_UNPACKED_BYTES", 2 * len(data))
  files = [str(tmp_path / "cut.txt")]
  if not at_once:
    text_checks.check_files(files, None)
    return
  with pytest.raises(UserError, match="ends too early"):
    text_checks.check_files(files, None)


@pytest.mark.parametrize("documents", ["line", "file"])
def test_files_of_other_kinds_are_all_named_before_training(error_of, tmp_path, documents):
  for i in range(15):
    (tmp_path / f"{i:02d}.txt").write_bytes("some text\n".encode("utf-16"))
  (tmp_path / "16.txt").write_bytes(b"PAR1\x15\x04")
  (tmp_path / "b c.txt").write_text("good\n")
  message = error_of(f"{tmp_path}/*.txt", documents)
  lines = message.split("\n")
  assert lines[:12] == [
    f"{tmp_path}/{i:02d}.txt: it is text in UTF-16 and not in UTF-8." for i in range(12)
  ]
  assert lines[12] == "and 4 more files."
  # Once for all of them.
  assert lines[13].startswith(
    "Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE; or leave it out"
  )
  assert "CORPUS_FILES" in lines[13] and len(lines) == 14


def test_advice_for_one_file_has_its_name(error_of, tmp_path):
  (tmp_path / "a {b}.txt").write_bytes("some text\n".encode("utf-16"))
  (tmp_path / "c.txt").write_bytes(b"PAR1\x15\x04")
  utf16, parquet = error_of(f"{tmp_path}/*.txt", "line").split("\n")
  assert f"iconv -f UTF-16 -t UTF-8 '{tmp_path}/a {{b}}.txt' > NEW_FILE; or leave it out" in utf16
  assert parquet.startswith(f"{tmp_path}/c.txt: it is ")


def test_other_data_at_the_end_or_in_gzip_data(error_of, compressed, tmp_path):
  (tmp_path / "a.txt").write_bytes(b"text\n" * 50_000 + "some text\n".encode("utf-16-le") * 9000)
  assert (
    "a.txt: it is " in (message := error_of(tmp_path / "a.txt")) and "from about byte" in message
  )
  (tmp_path / "b.tgz").write_bytes(gzip.compress(b"PK\x03\x04" + bytes(99)))
  assert "b.tgz: it is a ZIP archive" in error_of(tmp_path / "b.tgz", "file")
  (tmp_path / "c.gz").write_bytes(gzip.compress(compressed(["text"])))
  assert "c.gz: it is gzip data, compressed twice. Unpack it once" in error_of(tmp_path / "c.gz")
  (tmp_path / "d.gz").write_bytes(gzip.compress("some text\n".encode("utf-16")))
  convert = f"gzip -dc {tmp_path}/d.gz > {tmp_path}/d, then: Convert it: iconv -f UTF-16 -t UTF-8"
  assert f"{convert} {tmp_path}/d > NEW_FILE; or leave" in error_of(tmp_path / "d.gz")
  (tmp_path / "e.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\n")
  assert "git lfs pull" in error_of(tmp_path / "e.txt")


@pytest.mark.parametrize("documents", ["line", "file"])
def test_wrong_bytes_are_reported_once_with_file_and_place(read_documents, tmp_path, documents):
  good = (b"text in ASCII " * 70 + b"\n") * 300
  (tmp_path / "at_the_end.txt").write_bytes(good + b"caf\xe9\n")
  (tmp_path / "deep_within.txt").write_bytes(good + b"\xff" + good * 3)
  (tmp_path / "good.txt").write_bytes(good)
  corpus = corpora.TextFiles(f"{tmp_path}/*.txt", documents, validation_fraction=0)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    source = corpus.source()
  (message,) = (str(warning.message) for warning in caught)
  place = len(good) + 3
  assert message.startswith(f"{tmp_path}/at_the_end.txt: byte {place:,} (0xe9) is not UTF-8")
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert b"\n".join([*read_documents(source), b""]).count(b"ASCII") == 300 * 70 * 6
    read_documents(source)
  (message,) = (str(warning.message) for warning in caught)
  assert message.startswith(f"{tmp_path}/deep_within.txt: byte {len(good):,} (0xff) is not UTF-8")


@pytest.mark.parametrize("documents", ["line", "file"])
def test_a_dump_of_mediawiki_is_read_with_a_warning(read_documents, tmp_path, documents):
  dump = b'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">\n<page>Tea</page>\n'
  (tmp_path / "wiki.xml").write_bytes(dump)
  (tmp_path / "wiki.xml.bz2").write_bytes(bz2.compress(dump))
  (tmp_path / "about.txt").write_text("A dump begins with <mediawiki xmlns=...>.\n")
  corpus = corpora.TextFiles(f"{tmp_path}/*", documents, validation_fraction=0)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert b"".join(read_documents(corpus.source())).count(b"<page>Tea</page>") == 2
  for name, warning in zip(("wiki.xml", "wiki.xml.bz2"), caught, strict=True):
    message = str(warning.message)
    assert message.startswith(f"{tmp_path}/{name}: it is a dump of MediaWiki, with its markup")
    assert "WikiExtractor" in message and message.endswith("read those with 'data/jsonl.gin'.")
