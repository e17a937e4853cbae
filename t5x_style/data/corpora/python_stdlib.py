"""The corpus everybody has: code and documentation of the running Python's standard library."""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from t5x_style.data.corpora import record_cache
from t5x_style.errors import UserError

# Raise it when what is written changes, so that nobody reads an old cache.
_VERSION = 1
_SUFFIXES = (".py", ".pyi", ".txt", ".rst", ".md", ".html", ".toml", ".cfg")
# Packages of the user, compiled files, and how this very interpreter was built.
_LEFT_OUT_FOLDERS = ("site-packages", "dist-packages", "__pycache__", "config-")
_LEFT_OUT_FILES = "_sysconfigdata"
_VALIDATION_PERCENT = 5
_SHARDS = {"train": 32, "validation": 8}


def folder() -> Path:
  return Path(sysconfig.get_path("stdlib"))


def split_of(path: str) -> str:
  """ "train" or "validation", by the path below the library's folder; the same on every Python."""
  share = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big") * 100 >> 32
  return "validation" if share < _VALIDATION_PERCENT else "train"


def open_records(cache_dir: str | None = None) -> record_cache.Records:
  """The corpus as records, about 32 MB; written when it is first asked for."""
  base = folder()
  paths = list(_paths(base))
  if not any(path.endswith(".py") for path in paths):
    raise UserError(
      f"the standard library has no source files in {base}: this Python keeps it elsewhere, e.g. "
      "in a zip file. Train on text of your own: include 'data/text_files.gin'."
    )
  # Reading all files to find out whether they have changed would take as long as the cache saves.
  key = hashlib.sha256(repr(_VERSION).encode())
  for path in paths:
    key.update(f"{path}\0{(base / path).stat().st_size}\n".encode())
  name = f"python_stdlib-{platform.python_version()}-{key.hexdigest()[:12]}"

  def build(writer: record_cache.Writer) -> dict[str, list[str]]:
    skipped = []
    for path in sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest()):
      content = (base / path).read_bytes()
      try:
        text = content.decode("utf-8")
      except UnicodeDecodeError:
        skipped.append(path)
        continue
      if text.strip():
        writer.add(split_of(path), content)
    return {"not_utf8": sorted(skipped)}

  return record_cache.open_or_build(cache_dir, name, _SHARDS, build)


def _paths(base: Path) -> Iterator[str]:
  """Every file of text, below `base`, with / between folders, sorted."""
  for where, folders, files in os.walk(base):
    folders[:] = sorted(f for f in folders if not f.startswith(_LEFT_OUT_FOLDERS))
    for file in sorted(files):
      path = Path(where, file)
      if file.endswith(_SUFFIXES) and not file.startswith(_LEFT_OUT_FILES) and path.is_file():
        yield path.relative_to(base).as_posix()
