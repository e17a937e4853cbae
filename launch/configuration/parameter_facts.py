"""What the code says of a parameter: its default, its type and range in words, what it does, where.

--explain shows it, and the site's reference of gin.
"""

import ast
import functools
import inspect
import io
import textwrap
import tokenize
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import docstring_parser
from annotated_types import Interval

from . import gin_references
from .gin_files import shown
from .gin_names import Target


def default(value: Any) -> str:
  """Returns a default as it is written: a factory of dataclasses by its name."""
  if type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
    return "a new one each time"
  return getattr(value, "__name__", None) or repr(value)


def documentation(target: Target) -> Mapping[str, str]:
  """Returns {parameter: what the docstring of a function or class says of it}."""
  return {} if target.missing else _documented(target.object)


@functools.cache
def _documented(target: Callable[..., Any]) -> Mapping[str, str]:
  parents = target.__mro__[::-1] if inspect.isclass(target) else (target,)
  found: dict[str, str] = {}
  for one in parents:
    found |= _field_comments(one) if inspect.isclass(one) else {}
    parsed = docstring_parser.parse(one.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
    for entry in parsed.params:
      for name in entry.arg_name.split(","):
        found[name.strip()] = " ".join((entry.description or "").split())
  return found


def _field_comments(owner: type) -> Mapping[str, str]:
  """Returns {field: the comment at the end of its line, or that in the lines above}."""
  source = _source(owner)
  if source is None:
    return {}
  comments = {
    token.start[0]: (token.string.lstrip("# ").strip(), not token.line[: token.start[1]].strip())
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline)
    if token.type == tokenize.COMMENT
  }
  found = {}
  for name, node in source.fields.items():
    if node.end_lineno in comments:
      found[name] = comments[node.end_lineno][0]
      continue
    first = node.lineno
    while comments.get(first - 1, ("", False))[1]:
      first -= 1
    found[name] = " ".join(comments[line][0] for line in range(first, node.lineno))
  return found


def kind(target: Target, parameter: str) -> str:
  """Returns the type of a parameter in words, with its range; "" if it is unknown."""
  if target.missing:
    return ""
  annotation = gin_references.annotations(target.object).get(parameter, Any)
  return "" if annotation is Any else _in_words(annotation)


def _in_words(annotation: Any) -> str:
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is typing.Literal:
    return f"one of {', '.join(map(repr, arguments))}"
  if origin is Annotated:
    ranges = [_range(x) for x in annotation.__metadata__ if isinstance(x, Interval)]
    return " ".join([_in_words(arguments[0]), *ranges])
  if gin_references.is_union(annotation):
    return " or ".join(dict.fromkeys(map(_in_words, arguments)))
  simple = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}
  simple |= {Mapping: "a dictionary", Sequence: "a list", tuple: "a tuple"}
  return simple.get(origin or annotation) or gin_references.in_words(annotation)


def _range(interval: Interval) -> str:
  words = []
  for bound, word in (
    (interval.ge, "from"),
    (interval.gt, "above"),
    (interval.le, "to"),
    (interval.lt, "below"),
  ):
    if bound is not None and abs(typing.cast(float, bound)) < 2**31:
      words.append(f"{word} {bound}")
  return " ".join(words)


def place_in_code(target: Target, parameter: str) -> tuple[str, int | None]:
  """Returns the file and the line in which a parameter is defined."""
  for one in inspect.getmro(target.object) if inspect.isclass(target.object) else (target.object,):
    source = _source(one)
    if source and parameter in source.fields:
      return source.file, source.first_line + source.fields[parameter].lineno - 1
  return target.module, None


class _Source(NamedTuple):
  """The source of a class or function, and the places of its fields or parameters in it."""

  file: str
  first_line: int
  text: str
  fields: Mapping[str, ast.AnnAssign | ast.arg]


@functools.cache
def _source(code: Callable[..., Any]) -> _Source | None:
  """Returns where a class or function is written; None for those that are not in Python."""
  try:
    lines, first = inspect.getsourcelines(code)
    file = inspect.getsourcefile(code) or ""
  except (OSError, TypeError):
    return None
  text = textwrap.dedent("".join(lines))
  (definition,) = ast.parse(text).body
  fields: dict[str, ast.AnnAssign | ast.arg] = {}
  for node in ast.walk(definition):
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
      fields.setdefault(node.target.id, node)
    elif isinstance(node, ast.arg):
      fields.setdefault(node.arg, node)
  return _Source(shown(Path(file)), first, text, fields)
