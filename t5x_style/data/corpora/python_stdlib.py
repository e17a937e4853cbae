"""The corpus that every machine has: the standard library of the running Python."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Interval

from t5x_style.data.corpora.reading import record_cache
from t5x_style.data.corpora.reading.parts import Document, Part
from t5x_style.errors import UserError
from t5x_style.setting_types import Text

if TYPE_CHECKING:
  import seqio

# Increase it when the cached text changes, so that no run reads an old cache.
_VERSION = 1
_SUFFIXES = (".py", ".pyi", ".txt", ".rst", ".md", ".html", ".toml", ".cfg")
# Left out: packages of the user, compiled files, and the build settings of this interpreter.
_LEFT_OUT_FOLDERS = ("site-packages", "dist-packages", "__pycache__", "config-")
_LEFT_OUT_FILES = "_sysconfigdata"
VALIDATION_PERCENT = 5
_SHARDS = {"train": 32, "validation": 8}


@dataclasses.dataclass(frozen=True)
class PythonStdlib:
  """Code and documentation of the running Python's standard library: 30 MB, 1,900 files, offline.

  Each file is one document. Files that are not UTF-8 are left out.

  Attributes:
    validation_percent: of the files, held out by a hash of their path.
    cache_dir: local folder for a copy of 32 MB; $T5X_STYLE_CACHE or the user's cache if None.
  """

  validation_percent: Annotated[int, Interval(gt=0, lt=100)] = VALIDATION_PERCENT
  cache_dir: Text | None = None
  name: ClassVar[str] = "python_stdlib"

  def source(self) -> seqio.DataSource:
    return open_records(self.cache_dir, self.validation_percent).source()

  def fingerprint(self) -> str:
    return open_records(self.cache_dir, self.validation_percent).content

  def parts(self) -> Sequence[Part]:
    return parts_of(ordered(text_files(folder())))

  def read(self, part: Part) -> Iterator[Document]:
    if text := _text(folder() / part.file):
      yield Document(split_of(part.file, self.validation_percent), text, None, part.file, 0)


def folder() -> Path:
  """Returns the folder of the standard library."""
  return Path(sysconfig.get_path("stdlib"))


def split_of(path: str, percent: int = VALIDATION_PERCENT) -> str:
  """Returns the split of a file, by its path in the library; the same on every Python.

  A file that is held out is also held out with a larger percentage.
  """
  share = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big") * 100 >> 32
  return "validation" if share < percent else "train"


def open_records(
  cache_dir: str | None = None, percent: int = VALIDATION_PERCENT
) -> record_cache.Records:
  """Opens the cached corpus, about 32 MB; the first call writes it."""
  base = folder()
  paths = list(text_files(base))
  if not any(path.endswith(".py") for path in paths):
    raise UserError(
      f"the standard library has no source files in {base}: this Python keeps it elsewhere, e.g. "
      "in a zip file. Train on text of your own: include 'data/text_files.gin'."
    )
  # The key holds sizes, not contents: reading all files would take as long as the cache saves.
  key = hashlib.sha256(repr(_VERSION).encode())
  for path in paths:
    key.update(f"{path}\0{(base / path).stat().st_size}\n".encode())
  name = f"python_stdlib-{platform.python_version()}-{key.hexdigest()[:12]}"
  if percent != VALIDATION_PERCENT:
    name += f"-{percent}"

  def build(writer: record_cache.RecordWriter) -> dict[str, list[str]]:
    skipped = []
    for path in ordered(paths):
      text = _text(base / path)
      if text is None:
        skipped.append(path)
      elif text:
        writer.add(split_of(path, percent), text)
    return {"not_utf8": sorted(skipped)}

  return record_cache.open_or_build(cache_dir, name, _SHARDS, build)


def _text(file: Path) -> bytes | None:
  """Returns the text of a file, b"" if it is only space; None if it is not UTF-8."""
  content = file.read_bytes()
  try:
    return content if content.decode().strip() else b""
  except UnicodeDecodeError:
    return None


def ordered(paths: Iterable[str]) -> list[str]:
  """Returns paths in the order of a hash, which mixes the folders."""
  return sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest())


def parts_of(paths: Sequence[str]) -> list[Part]:
  """Returns a part for each of a list of files."""
  base = folder()
  return [Part(None, path, size=(base / path).stat().st_size) for path in paths]


def text_files(base: Path) -> Iterator[str]:
  """Yields the paths of all text files relative to `base`, sorted, with / between folders."""
  for where, folders, files in os.walk(base):
    folders[:] = sorted(f for f in folders if not f.startswith(_LEFT_OUT_FOLDERS))
    for file in sorted(files):
      path = Path(where, file)
      if file.endswith(_SUFFIXES) and not file.startswith(_LEFT_OUT_FILES) and path.is_file():
        yield path.relative_to(base).as_posix()
