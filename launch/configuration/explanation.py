"""Where every setting of a run comes from, and what it does: what --explain shows."""

import ast
import dataclasses
import functools
import inspect
import io
import shutil
import textwrap
import tokenize
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import docstring_parser
from annotated_types import Interval

from . import gin_references, t5x_names
from .gin_checks import Bound
from .gin_files import shown
from .gin_names import ResolvedReference, Target
from .gin_text import Macro, SourceLocation, Verbatim, join, replace
from .reader import Configuration

_MOST_VALUE = 300  # characters of a value that are shown


@dataclasses.dataclass(frozen=True)
class Setting:
  """A setting of a run.

  Attributes:
    name: a macro such as TRAIN_STEPS, or a parameter such as "span_corruption.SpanCorruption.
      mean_span".
    value: as gin would be given it.
    location: where the value is written; for a default, where the code defines it.
    earlier: the values that it replaces, the newest first, each with its location.
    about: what it does: the comment or the docstring where it is defined; "" if there is none.
    kind: its type in words; "" if it is unknown.
    parameters: the full names of the parameters that a macro is bound to.
    t5x: T5X's name for it; "" if T5X has none.
  """

  name: str
  value: str
  location: SourceLocation
  earlier: tuple[tuple[str, SourceLocation], ...] = ()
  about: str = ""
  kind: str = ""
  parameters: tuple[str, ...] = ()
  t5x: str = ""


def macros(settings: Configuration) -> Iterator[Setting]:
  """Yields all macros of a configuration, in the order in which files set them first."""
  bound_to: dict[str, list[Bound]] = {}
  for bound in settings.bound:
    if isinstance(bound.value, Macro):
      bound_to.setdefault(bound.value.name, []).append(bound)
  for name, bound in settings.macros.items():
    uses = bound_to.get(name, [])
    documented = (_documentation(use.target).get(use.name, "") for use in uses if use.target)
    yield Setting(
      name,
      _shown_value(bound.value),
      bound.location,
      _earlier(bound),
      about=_about(bound, next(filter(None, documented), "")),
      kind=next((_kind(use.target, use.name) for use in uses if use.target), ""),
      parameters=tuple(f"{use.target}.{use.name}" for use in uses),
      t5x=t5x_names.of(name),
    )


def parameters(settings: Configuration) -> Iterator[Setting]:
  """Yields the parameters that are set to anything else than a macro."""
  for bound in settings.bound:
    if not isinstance(bound.value, Macro):
      assert bound.target is not None
      name = f"{bound.target.written}.{bound.name}"
      yield Setting(
        join(bound.scope, name),
        _shown_value(bound.value),
        bound.location,
        _earlier(bound),
        about=_about(bound, _documentation(bound.target).get(bound.name, "")),
        kind=_kind(bound.target, bound.name),
        t5x=t5x_names.of(name),
      )


def defaults(settings: Configuration) -> Iterator[Setting]:
  """Yields the parameters of all that is bound or referenced which nothing sets, with defaults."""
  given = {(str(bound.target), bound.name) for bound in settings.bound}
  for target in sorted(settings.targets, key=str):
    if target.missing:
      continue
    about = _documentation(target)
    for name, parameter in target.parameters.items():
      if parameter.default is parameter.empty or (str(target), name) in given:
        continue
      yield Setting(
        f"{target.written}.{name}",
        _default(parameter.default),
        SourceLocation(*_place_in_code(target, name), ""),
        about=about.get(name, ""),
        kind=_kind(target, name),
        t5x=t5x_names.of(f"{target.written}.{name}"),
      )


def text(settings: Configuration, width: int | None = None) -> str:
  """Returns all settings as text: what files and flags set, then the defaults of the code.

  Args:
    width: of a line, in characters; that of the terminal by default.
  """
  width = min(width or shutil.get_terminal_size((100, 24)).columns, 120)
  parts = (
    ("Macros, as gin files and the command line set them", macros(settings)),
    ("Parameters that are set by their own names", parameters(settings)),
    ("Parameters that nothing sets: the defaults of the code", defaults(settings)),
  )
  lines: list[str] = []
  for title, found in parts:
    lines += [title, "-" * min(len(title), width), ""]
    for setting in found:
      lines += [*_lines(setting, width), ""]
  return "\n".join(lines)


def _lines(setting: Setting, width: int) -> Iterator[str]:
  """Yields the lines that explain one setting."""
  value = (
    setting.value if len(setting.value) <= _MOST_VALUE else f"{setting.value[:_MOST_VALUE]} ..."
  )
  yield from textwrap.wrap(f"{setting.name} = {value}", width, subsequent_indent="    ")
  details = [str(setting.location)]
  details += [f"instead of {value}, {location}" for value, location in setting.earlier]
  details += [setting.about, setting.kind]
  if setting.parameters:
    details.append(f"is {', '.join(setting.parameters)}")
  if setting.t5x:
    details.append(f"in T5X: {setting.t5x}")
  for detail in filter(None, details):
    yield from textwrap.wrap(
      detail, width, initial_indent="    ", subsequent_indent="      ", break_long_words=False
    )


def _earlier(bound: Bound) -> tuple[tuple[str, SourceLocation], ...]:
  return tuple((_shown_value(one.value), one.location) for one in list(bound.history())[1:])


def _shown_value(value: Any) -> str:
  def reference(ref: ResolvedReference) -> Verbatim:
    call = "()" if ref.evaluate else ""
    return Verbatim(f"@{join(ref.scope, ref.target.written)}{call}")

  return repr(replace(value, ResolvedReference, reference))


def _default(value: Any) -> str:
  """Returns a default as it is written: a factory of dataclasses by its name."""
  if type(value).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
    return "a new one each time"
  return getattr(value, "__name__", None) or repr(value)


def _about(bound: Bound, documented: str) -> str:
  """Returns what a setting does: the comment where it is bound first, and its documentation."""
  comment = next(filter(None, map(_comment, reversed(list(bound.history())))), "")
  texts = dict.fromkeys(text.rstrip(".") for text in (comment, documented) if text)
  return ". ".join(texts)


def _comment(bound: Bound) -> str:
  """Returns the comment at the end of the line that binds a value; "" if there is none."""
  line = io.StringIO(f"{bound.location.text.strip()}\n")
  try:
    for token in tokenize.generate_tokens(line.readline):
      if token.type == tokenize.COMMENT:
        return token.string.lstrip("# ").strip()
  except (tokenize.TokenError, SyntaxError):  # The value continues in the next line.
    pass
  return ""


def _documentation(target: Target) -> Mapping[str, str]:
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


def _field_comments(kind: type) -> Mapping[str, str]:
  """Returns {field: the comment at the end of its line, or that in the lines above}."""
  source = _source(kind)
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


def _kind(target: Target, parameter: str) -> str:
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
  return simple.get(annotation) or gin_references.in_words(annotation)


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


def _place_in_code(target: Target, parameter: str) -> tuple[str, int | None]:
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
