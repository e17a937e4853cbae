"""Functions of the standard library without their names, and the names: a task of text to text."""

from __future__ import annotations

import ast
import dataclasses
import re
import textwrap
import warnings
from collections.abc import Iterator
from typing import ClassVar

from t5x_style.data.corpora.stdlib_examples import StdlibExamples

_FEWEST_LINES = 3
_MOST_CHARACTERS = 1000  # of a function; the rest is left out
_MOST_WORDS = 6  # of a name
_MOST_FUNCTIONS = 24  # of a file, so that no long one outweighs the others
# "getHTTPStatus_2" -> get, HTTP, Status, 2
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


@dataclasses.dataclass(frozen=True)
class StdlibFunctions(StdlibExamples):
  """{"text": a function called f, "target": the words of its real name}: 16,000 functions.

  Allamanis et al. 2016 call the task extreme summarization of source code. The name is replaced
  wherever it stands in the function. All functions of a file are in one split.

  Attributes:
    validation_percent: of the files, held out by a hash of their path; those that PythonStdlib
      holds out with the same percentage.
    cache_dir: as in PythonStdlib; 8 MB.
  """

  name: ClassVar[str] = "stdlib_functions"
  version: ClassVar[int] = 1

  @staticmethod
  def is_used(path: str) -> bool:
    return path.endswith(".py")

  @staticmethod
  def examples(path: str, code: str) -> Iterator[tuple[str, str, int]]:
    return named_functions(code)


def named_functions(code: str) -> Iterator[tuple[str, str, int]]:
  """Yields functions without their names, the words of the names, in lower case, and their lines.

  At most 24 functions from all over a file are taken; none of a file that does not parse. Special
  methods such as __init__ are left out, as are functions of one or two lines.
  """
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of old code, such as invalid escapes
    try:
      tree = ast.parse(code)
    except (SyntaxError, ValueError):  # files that test the parser, and null bytes
      return
  lines = code.splitlines()
  found = []
  for node in ast.walk(tree):
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
      continue
    words, last = _WORD.findall(node.name), node.end_lineno or node.lineno
    if node.name.startswith("__") or not 1 <= len(words) <= _MOST_WORDS:
      continue
    if last - node.lineno + 1 < _FEWEST_LINES:
      continue
    text = textwrap.dedent("\n".join(lines[node.lineno - 1 : last]))
    text = re.sub(rf"\b{re.escape(node.name)}\b", "f", text)
    found.append((text[:_MOST_CHARACTERS], " ".join(words).lower(), node.lineno))
  yield from found[:: -(-len(found) // _MOST_FUNCTIONS) or 1]
