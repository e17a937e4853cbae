"""Formats are recognised by bytes: text is not mistaken for data, nor data for text."""

import bz2
import gzip
import io
import lzma
import pickle
import random
import sqlite3
import tarfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from t5x_style.data.corpora import python_stdlib
from t5x_style.data.corpora.reading import file_formats

ENGLISH = (
  "The quick brown fox jumps over the lazy dog.\nHow vexingly quick daft zebras jump!\n" * 30
)
FRENCH = "Dès Noël, où un zéphyr haï me vêt de glaçons würmiens, je dîne exquisément.\n" * 30
CHINESE = "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。\n" * 30
CYRILLIC = "Съешь же ещё этих мягких французских булок, да выпей чаю.\n" * 30


def judge(content, **options):
  return file_formats.find_problem(content[:65_536], **options)


def test_text_is_text():
  """Returns the text files of Python's library: code, test data, documents in many languages."""
  count = 0
  for path in python_stdlib.text_files(python_stdlib.folder()):
    content = (python_stdlib.folder() / path).read_bytes()
    try:
      content.decode()
    except UnicodeDecodeError:
      continue
    count += 1
    assert judge(content) is None or "iso2022" in str(path), path
  assert count > 500


@pytest.mark.parametrize("text", [ENGLISH, FRENCH, CHINESE, CYRILLIC, "a", "", "\ufeffa", "é"])
def test_short_and_foreign_texts_and_every_part_of_them(text):
  content = text.encode()
  assert judge(content) is None
  for start in range(min(20, len(content))):
    assert judge(content[start:-1], start=False) is None


@pytest.mark.parametrize(
  "text",
  [
    "PAR1 and PAR2 are regions of the X chromosome.",
    "ORCHESTRA",
    "BZh",
    "Obj",
    "GIF89a is a format",
    "RIFF",
    "PK",
    "\x1b[31mred\x1b[0m\b\n",
    ENGLISH + "one \0 byte" + ENGLISH,
  ],
)
def test_texts_that_begin_like_data(text):
  assert judge(text.encode()) is None


def archive(kind):
  out = io.BytesIO()
  content = ENGLISH.encode()
  if kind == "zip":
    with zipfile.ZipFile(out, "w") as file:
      file.writestr("a.txt", content)
  elif kind == "tar":
    with tarfile.open(fileobj=out, mode="w") as file:
      member = tarfile.TarInfo("a.txt")
      member.size = len(content)
      file.addfile(member, io.BytesIO(content))
  elif kind == "npy":
    np.save(out, np.arange(100))
  return out.getvalue()


def records(folder):
  with tf.io.TFRecordWriter(str(folder / "r")) as writer:
    for _ in range(3):
      writer.write(ENGLISH.encode())
  return (folder / "r").read_bytes()


def database(folder):
  with sqlite3.connect(folder / "d") as connection:
    connection.execute("create table t (text)")
    connection.execute("insert into t values (?)", (ENGLISH,))
  return (folder / "d").read_bytes()


@pytest.mark.parametrize(
  ("make", "name"),
  [
    (lambda _: b"\x28\xb5\x2f\xfd" + random.Random(0).randbytes(99), "Zstandard"),
    (lambda _: bz2.compress(ENGLISH.encode()), "bzip2"),
    (lambda _: lzma.compress(ENGLISH.encode()), "xz"),
    (lambda _: lzma.compress(ENGLISH.encode(), lzma.FORMAT_ALONE), "LZMA"),
    (lambda _: b"\x04\x22\x4d\x18\x64" + random.Random(0).randbytes(99), "LZ4"),
    (lambda _: archive("zip"), "ZIP"),
    (lambda _: archive("tar"), "tar"),
    (lambda _: archive("npy"), "NumPy"),
    (records, "TFRecord"),
    (database, "SQLite"),
    (lambda _: pickle.dumps([ENGLISH]), "pickle"),
    (lambda _: b"PAR1\x15\x04" + ENGLISH.encode(), "Parquet"),
    (lambda _: b"ARROW1\0\0\xff\xff\xff\xff", "Arrow"),
    (lambda _: b"\xff\xff\xff\xff\x88\x02\0\0\x10\0\0\0", "Arrow"),
    (lambda _: b"\x89HDF\r\n\x1a\n\0", "HDF5"),
    (lambda _: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
    (lambda _: random.Random(0).randbytes(5000), "binary"),
    (lambda _: np.arange(60_000, dtype=np.uint16).tobytes(), "binary"),
    (lambda _: bytes(5000), "binary"),
    (lambda _: gzip.compress(random.Random(0).randbytes(5000))[20:], "binary"),
  ],
)
def test_data_is_not_text(make, name, tmp_path):
  fault = judge(make(tmp_path))
  assert isinstance(fault, file_formats.FileProblem) and name in fault.what
  assert fault.advice.format("'a b'")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("text", [ENGLISH, FRENCH, CHINESE, "hi\n"])
def test_other_encodings_of_unicode(text, encoding):
  fault = judge(text.encode(encoding))
  name = {"utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE", "utf-32-be": "UTF-32BE"}
  assert f"text in {name.get(encoding, encoding.upper())} and" in fault.what
  assert f"iconv -f {name.get(encoding, encoding.upper())} -t UTF-8 {{}}" in fault.advice


@pytest.mark.parametrize(
  ("text", "encoding"),
  [
    (FRENCH, "latin-1"),
    (CYRILLIC, "cp1251"),
    (CYRILLIC, "koi8-r"),
    (CHINESE, "gb18030"),
    (CHINESE, "big5"),
    ("いろはにほへと ちりぬるを\n" * 30, "shift-jis"),
    ("“It’s here,” she said – and smiled.\n" * 30, "cp1252"),
  ],
)
def test_other_encodings(text, encoding):
  for start in (True, False):
    fault = judge(text.encode(encoding), start=start)
    assert fault.what.startswith("not in UTF-8 (byte ") and "iconv" in fault.advice


def test_encodings_of_seven_bits():
  text = "いろはにほへと ちりぬるを\n" * 30
  for start in (True, False):
    assert "iconv -f ISO-2022-JP " in judge(text.encode("iso-2022-jp"), start=start).advice
  assert "iconv -f ISO-2022-KR " in judge("가나다 라마바\n".encode("iso-2022-kr")).advice
  assert judge(b"\x1b[31mred\x1b[0m costs $Bn\n") is None  # a terminal's colours


def test_a_few_wrong_bytes_are_no_other_encoding():
  """Their offset in the file is reported."""
  content = FRENCH.encode() + b"caf\xe9 \xff" + ENGLISH.encode()
  place = content.index(b"\xe9 \xff")
  assert judge(content) == (place, 0xE9)
  assert judge(content[3:], start=False) == (place - 3, 0xE9)
  assert judge(b"no \xff utf-8") == (3, 0xFF)
