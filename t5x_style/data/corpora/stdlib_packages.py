"""Pieces of the standard library's code, and the package that each comes from."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import ClassVar

from t5x_style.data.corpora.stdlib_examples import StdlibExamples

# Packages that every supported Python has, with many lines of code.
PACKAGES = (
  *("asyncio", "ctypes", "email", "encodings", "idlelib"),
  *("importlib", "multiprocessing", "tkinter", "unittest", "xml"),
)
_LINES = 8  # of a piece
_MOST_PIECES = 24  # of a file, so that no long one outweighs the others


@dataclasses.dataclass(frozen=True)
class StdlibPackages(StdlibExamples):
  """{"text": 8 lines of code, "target": the package they come from}, for ten packages.

  Lines that name the package are left out, as are blank ones, so that the answer is not written in
  the text. All pieces of a file are in one split.

  Attributes:
    validation_percent: of the files, held out by a hash of their path; those that PythonStdlib
      holds out with the same percentage.
    cache_dir: as in PythonStdlib; 2 MB.
  """

  name: ClassVar[str] = "stdlib_packages"
  version: ClassVar[int] = 1

  @staticmethod
  def is_used(path: str) -> bool:
    return bool(_package(path))

  @staticmethod
  def examples(path: str, code: str) -> Iterator[tuple[str, str, int]]:
    package = _package(path)
    return ((piece, package, line) for piece, line in pieces(code, package))


def pieces(code: str, package: str) -> Iterator[tuple[str, int]]:
  """Yields pieces of a file's code without the package's name, and the line each begins with.

  They are 24 at most, from all over the file.
  """
  named = re.compile(rf"{package}", re.IGNORECASE)
  lines = [
    (line, number)
    for number, line in enumerate(code.splitlines(), 1)
    if line.strip() and not named.search(line)
  ]
  found = [
    ("\n".join(line for line, _ in lines[i : i + _LINES]), lines[i][1])
    for i in range(0, len(lines) - _LINES + 1, _LINES)
  ]
  yield from found[:: -(-len(found) // _MOST_PIECES) or 1]


def _package(path: str) -> str:
  """Returns the package of PACKAGES that a file is in; "" if it is in none, or is no code."""
  package, _, rest = path.partition("/")
  return package if rest.endswith(".py") and package in PACKAGES else ""
