"""Compressors: bits per byte of a text, alone and given another one."""

import bz2
import lzma
import random

import pytest

from launch.evaluation import compressors

LINE = b"the quick brown fox jumps over the lazy dog\n"


def test_the_size_is_that_of_the_files_that_the_compressors_write():
  found = compressors.compress([LINE * 50, LINE], [])
  text = LINE * 51
  assert (found.bytes, found.bytes_before, found.whole) == (len(text), 0, True)
  assert found.bits_per_byte["bz2"] == 8 * len(bz2.compress(text)) / len(text)
  assert found.bits_per_byte["xz"] == 8 * len(lzma.compress(text, preset=9)) / len(text)
  assert found.method == f"{len(text):,} bytes of held-out text, compressed alone"


def test_training_text_that_is_small_is_given(monkeypatch):
  alone = compressors.compress([LINE], []).bits_per_byte
  given = compressors.compress([LINE], [LINE, LINE])
  assert given.bytes_before == 2 * len(LINE)
  assert all(given.bits_per_byte[name] < alone[name] / 2 for name in ("gzip", "xz"))
  monkeypatch.setattr(compressors, "MOST_BYTES", 2 * len(LINE) - 1)
  large = compressors.compress([LINE], [LINE, LINE, LINE])
  assert large.bytes_before == 0 and large.bits_per_byte == alone
  cut = compressors.compress([LINE, LINE], [])
  assert not cut.whole and cut.bytes == 2 * len(LINE) - 1 and "(its beginning)" in cut.method


def test_no_text_has_no_figure():
  assert compressors.compress([], [LINE]) is None
  assert compressors.compress([b""], [LINE]) is None


def test_bytes_without_a_pattern_are_not_compressed():
  noise = random.Random(0).randbytes(20_000)
  bits = compressors.compress([noise], []).bits_per_byte
  assert all(value == pytest.approx(8, rel=0.05) for value in bits.values())
