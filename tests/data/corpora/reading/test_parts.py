"""Line numbers: counted once, whatever the order in which they are asked for."""

import gzip
import io
import os
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from t5x_style.data import corpora
from t5x_style.data.corpora.reading import parts, record_files, text_blocks, text_reading


def test_lines_are_counted_from_any_place(tmp_path, monkeypatch):
  monkeypatch.setattr(parts, "_CHUNK", 1000)
  content = b"".join(b"%d\n" % (i**5) for i in range(3000)) + b"end"
  (tmp_path / "a.txt").write_bytes(content)
  (tmp_path / "b.gz").write_bytes(gzip.compress(content))
  offsets = [random.Random(0).randrange(len(content)) for _ in range(50)]
  for name in ("a.txt", "b.gz"):
    numbers = parts.LineNumbers()
    for offset in (0, *offsets, len(content), *offsets):
      assert numbers.before(str(tmp_path / name), offset) == content[:offset].count(b"\n")


def test_a_part_that_was_counted_is_not_read_again(tmp_path):
  file = tmp_path / "a.txt"
  file.write_bytes(b"line\n" * 1000)
  numbers = parts.LineNumbers()
  assert numbers.before(str(file), 3000) == 600
  before = file.stat().st_mtime_ns
  file.write_bytes(b"x" * 3000 + b"\n" * 2000)  # Only the end is read now.
  os.utime(file, ns=(before, before))
  assert numbers.before(str(file), 3100) == 700
  assert numbers.before(str(file), 3000) == 600
  os.utime(file, ns=(before, before + 10**9))  # It is another file now.
  assert numbers.before(str(file), 3100) == 100


@pytest.mark.parametrize("kind", ["jsonl", "lines"])
def test_the_lines_of_all_parts_are_counted_once(tmp_path, monkeypatch, kind):
  monkeypatch.setattr(record_files, "_PART_BYTES", 1000)
  monkeypatch.setattr(text_blocks, "_PART_BYTES", 1000)
  monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 100)
  file = tmp_path / "a"
  file.write_text("".join(f'{{"text": "{i}"}}\n' for i in range(2000)))
  counted = []

  class Counted(io.BytesIO):
    def read(self, size):
      found = super().read(size)
      counted.append(len(found))
      return found

  def open_text(name):
    return Counted(Path(name).read_bytes())

  monkeypatch.setattr(
    parts, "text_reading", SimpleNamespace(naming=text_reading.naming, open_text=open_text)
  )
  if kind == "jsonl":
    corpus = corpora.Jsonl(str(file), validation_fraction=0)
  else:
    corpus = corpora.TextFiles(str(file), documents="line", validation_fraction=0)
  found = corpus.parts()
  assert len(found) > 20
  assert [x.line for part in found for x in corpus.read(part)] == list(range(1, 2001))
  assert sum(counted) <= file.stat().st_size
