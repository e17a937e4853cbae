"""A file that grows by whole records, also while it cannot be written."""

import json

import pytest

from t5x_style.reporting import record_file
from t5x_style.reporting.record_file import RecordFile


def test_a_record_is_written_as_a_whole_or_later(tmp_path, no_room):
  path = tmp_path / "new" / "file"
  file = RecordFile(path, first=b"head\n")
  assert not path.exists()
  file.add(b"one\n")
  with no_room(11):
    for record in (b"two-three\n", b"four\n"):  # Two bytes of it have room.
      with pytest.raises(OSError, match="File too large"):
        file.add(record)
      assert path.read_bytes() == b"head\none\n"
  file.add(b"five\n")
  file.close()
  assert path.read_bytes() == b"head\none\ntwo-three\nfour\nfive\n"


def test_an_old_file_is_continued_and_a_cut_needs_no_room(tmp_path, no_room):
  path = tmp_path / "file"
  path.write_bytes(b"1\n2\n3\n")
  file = RecordFile(path)
  with no_room(1):
    with pytest.raises(OSError, match="File too large"):
      file.add(b"4\n")
    file.keep(lambda content: content.replace(b"3\n", b"").replace(b"4\n", b""))
  assert path.read_bytes() == b"1\n2\n"
  file.add(b"5\n")
  file.keep(lambda content: content.replace(b"1\n", b""))
  file.add(b"6\n")
  file.close()
  assert path.read_bytes() == b"2\n5\n6\n"
  assert [x.name for x in tmp_path.iterdir()] == ["file"]


def test_in_a_bucket_the_file_is_written_as_a_whole(tmp_path, no_room, monkeypatch):
  monkeypatch.setattr(record_file, "is_local", lambda path: False)
  path = tmp_path / "file"
  path.write_bytes(b"1\n")
  file = RecordFile(path)
  file.add(b"2\n")
  assert path.read_bytes() == b"1\n"
  with no_room(3), pytest.raises(OSError, match="File too large"):
    file.flush()
  file.add(b"3\n")
  file.flush()
  assert path.read_bytes() == b"1\n2\n3\n"
  file.keep(lambda content: content.replace(b"2\n", b""))
  file.add(json.dumps(4).encode())
  file.close()
  assert path.read_bytes() == b"1\n3\n4"
