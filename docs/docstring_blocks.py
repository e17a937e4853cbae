"""A Sphinx extension: indented examples in docstrings stay as they are written.

The docstrings of this package show tables and examples by indentation alone, as one reads them in
the source. reStructuredText would take them for quotations and join their lines.
"""

import re
from collections.abc import Iterator
from typing import Any

_SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:", "Yields:")


def as_blocks(lines: list[str]) -> list[str]:
  """Returns the lines of a docstring with a literal block for each indented part.

  Sections such as Args: are left to napoleon, but for examples inside them.
  """
  return [*_converted(lines)]


def _converted(lines: list[str]) -> Iterator[str]:
  section_indent: int | None = None
  block_indent: int | None = None
  for i, line in enumerate(lines):
    indent = len(line) - len(line.lstrip())
    if not line.strip():
      yield line
      continue
    if line.strip() in _SECTIONS:
      section_indent, block_indent = indent, None
    elif section_indent is not None and indent <= section_indent:
      section_indent = None
    if block_indent is not None and indent < block_indent:
      block_indent = None
      if lines[i - 1].strip():
        yield ""
    if section_indent is None and block_indent is None and indent > 0:
      before = next((x for x in reversed(lines[:i]) if x.strip()), "")
      if len(before) - len(before.lstrip()) < indent:
        block_indent = indent
        yield from ("", "::", "")
    yield line if block_indent is not None else _escaped(line)


def _escaped(line: str) -> str:
  """Returns a line in which *, | and a last _ of a word stand for themselves."""
  parts = re.split(r"(`[^`]*`)", line)
  return "".join(
    part if part.startswith("`") else re.sub(r"[*|]|(?<=\w)_(?=\W|$)", r"\\\g<0>", part)
    for part in parts
  )


def _process(app: Any, what: str, name: str, object: Any, options: Any, lines: list[str]) -> None:
  lines[:] = as_blocks(lines)


def setup(app: Any) -> dict[str, bool]:
  # Before napoleon, which has the priority 500.
  app.connect("autodoc-process-docstring", _process, priority=400)
  return {"parallel_read_safe": True}
