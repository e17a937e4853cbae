"""Line numbers: counted once, whatever the order in which they are asked for."""

import gzip
import random

from t5x_style.data.corpora.reading import parts


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
  file.write_bytes(b"x" * 3000 + b"\n" * 2000)  # Only the end is read now.
  assert numbers.before(str(file), 3100) == 700
  assert numbers.before(str(file), 3000) == 600
