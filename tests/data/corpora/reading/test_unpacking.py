"""Compressed data: all members are unpacked, and damage is an error wherever it is."""

import bz2
import gzip
import io
import lzma
import random

import pytest

from t5x_style.data.corpora.reading import unpacking

TEXT = random.Random(0).randbytes(50_000).hex().encode() + b"x" * 400_000


def zstd(content):
  zstd = pytest.importorskip("backports.zstd")
  return zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1})


PACK = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "Zstandard": zstd}


def unpacked(content):
  found = unpacking.recognised(content[: unpacking.HEAD])
  return io.BufferedReader(unpacking.Unpacked(io.BufferedReader(io.BytesIO(content)), found))


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("size", [1, 1000, 10**7])
def test_members_that_follow_one_another(name, size):
  if size == 1:
    parts = [b"one", b"", b"two"]
  else:
    parts = [TEXT, b"", TEXT[::-1], b"end"]
  content = b"".join(PACK[name](part) for part in parts)
  stream, found = unpacked(content), []
  assert stream.raw.format.name == name
  while chunk := stream.raw.read(size):
    found.append(chunk)
  assert b"".join(found) == b"".join(parts)
  assert unpacked(content + bytes(700)).read() == b"".join(parts)  # filled up with zeros


@pytest.mark.parametrize("name", PACK)
def test_positions(name):
  stream = unpacked(PACK[name](TEXT) + PACK[name](TEXT))
  for offset in (0, 5, len(TEXT) - 2, len(TEXT) + 7, 3, 2 * len(TEXT)):
    stream.seek(offset)
    assert stream.tell() == offset
    assert stream.read(11) == (TEXT + TEXT)[offset : offset + 11]


@pytest.mark.parametrize("name", PACK)
def test_damage(name):
  good = PACK[name](TEXT)
  cases = {
    "ends too early": [good + good[:-1], good + good[: len(good) // 2], good[:-3]],
    "is damaged": [good[: len(good) // 3] + b"~" * 50 + good[len(good) // 3 + 50 :]],
    "is followed by other data": [good + b"more", good + b"\0" * 8 + b"x"],
  }
  for message, contents in cases.items():
    for content in contents:
      with pytest.raises(unpacking.DamagedError, match=f"its {name} data {message}") as raised:
        unpacked(content).read()
      assert raised.value.check.endswith(" -t")


def test_what_is_not_compressed():
  for content in (b"", b"BZh", b"BZhang and others", b"P*M text", b"text"):
    assert unpacking.recognised(content) is None
  assert unpacking.named("a/b.jsonl.zst").name == "Zstandard"
  assert unpacking.named("a.gz/b.txt") is None
