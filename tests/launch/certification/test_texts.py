"""The texts of recipes: made-up text that never changes, and how a file is cut."""

import pytest

from launch.certification import texts
from launch.process.errors import ConfigurationError


def test_the_made_up_text_never_changes(tmp_path):
  """Kept curves are of this text."""
  text = texts.prepare(None, tmp_path)
  assert text.sha256 == "a99b9dde8f8d7eb4c8f2116e0e4fcb49662da2f5d90907e3da1e7c610ec80840"
  assert text.name == "made-up text" and text.argument == ""


def test_a_file_is_cut_at_nine_tenths_of_its_characters(tmp_path):
  content = "äöü\n" * 25  # 100 characters of 175 bytes
  file = tmp_path / "a file.txt"
  file.write_bytes(content.encode())
  text = texts.prepare(str(file), tmp_path / "text")
  assert text.train.read_text() == content[:90] and text.validation.read_text() == content[90:]
  assert not text.is_tiny_shakespeare and text.argument == " --text='a file.txt'"
  before = text.train.stat().st_mtime_ns
  texts.prepare(str(file), tmp_path / "text")
  assert text.train.stat().st_mtime_ns == before  # A run that resumes reads the same file.


def test_what_is_no_text_is_refused(tmp_path):
  file = tmp_path / "image.png"
  file.write_bytes(b"\x89PNG\xff")
  with pytest.raises(ConfigurationError, match="image.png: the file is not text in UTF-8"):
    texts.prepare(str(file), tmp_path / "text")
