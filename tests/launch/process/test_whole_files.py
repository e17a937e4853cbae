"""A file is replaced as a whole; a failed write leaves the one before."""

import errno
import json
import os
import subprocess
import sys

import pytest

from launch.process import whole_files


def test_a_file_is_replaced(tmp_path):
  path = tmp_path / "a.json"
  whole_files.write_json(path, {"text": "ä"})
  whole_files.write_json(path, {"text": "ö\u2028"})
  assert json.loads(path.read_bytes()) == {"text": "ö\u2028"}
  assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_leaves_the_file_before(tmp_path, monkeypatch):
  path = tmp_path / "a.txt"
  whole_files.write(path, "before")

  def full(descriptor):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(OSError, match="No space"):
    whole_files.write(path, "after")
  assert path.read_text() == "before"
  assert os.listdir(tmp_path) == ["a.txt"]


def test_a_kill_leaves_one_of_both(tmp_path):
  path = tmp_path / "a.txt"
  whole_files.write(path, "before")
  killed = "import os, signal; os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
  write = f"from launch.process import whole_files; whole_files.write({str(path)!r}, 'after')"
  code = subprocess.run([sys.executable, "-c", killed + write], check=False).returncode
  assert code == -9
  assert path.read_text() == "before"
