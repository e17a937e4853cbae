"""A Sphinx extension: writes the page of every command from its --help.

It imports no part of Sphinx, so that the tests can ask it which flags a command has.
"""

import contextlib
import functools
import importlib
import io
import os
import re
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "commands.md"
_COLUMNS = "100"  # of the terminal that the help is made for
_INTRODUCTION = """\
# Commands

Each of them is `python -m launch.NAME` in a clone, and `python -m t5x_style.launch.NAME` where the
package is installed. This page is what `--help` prints.
"""


def commands() -> list[str]:
  """Returns the names of all commands, each a file of launch/."""
  return sorted(x.stem for x in (ROOT / "launch").glob("*.py") if x.stem != "__init__")


@functools.cache
def help_of(command: str) -> str:
  """Returns what `python -m launch.COMMAND --help` prints."""
  module = importlib.import_module(f"launch.{command}")
  printed, wide = io.StringIO(), mock.patch.dict(os.environ, COLUMNS=_COLUMNS)
  with wide, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
    module.main([f"launch.{command}", "--help"])
  return printed.getvalue()


def flags_of(command: str) -> set[str]:
  """Returns the flags of a command, such as "--gin_file"."""
  return set(re.findall(r"^  (--\w+)", help_of(command), re.MULTILINE))


def page() -> str:
  """Returns the page of all commands."""
  parts = [_INTRODUCTION]
  for name in commands():
    parts.append(f"## launch.{name}\n\n```text\n{help_of(name).rstrip()}\n```\n")
  return "\n".join(parts)


def _write(app: Any) -> None:
  write_if_changed(PAGE, page())


def write_if_changed(path: Path, text: str) -> None:
  """Writes a page; Sphinx reads it again only if it is another one."""
  if not path.exists() or path.read_text() != text:
    path.write_text(text)


def setup(app: Any) -> dict[str, bool]:
  app.connect("builder-inited", _write)
  return {"parallel_read_safe": True}
