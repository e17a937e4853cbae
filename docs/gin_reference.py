"""A Sphinx extension: writes the reference of everything that gin can set, from the code.

A name in capitals (a macro) is described by the comment beside it in the gin files, and by the
docstring of the parameter that it is bound to; types and defaults are those of the code. Nothing on
these pages is written by hand, so they cannot become outdated. It imports no part of Sphinx.
"""

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import annotated_types
from command_reference import write_if_changed
from gin import config_parser

from launch.configuration import gin_files, gin_names, gin_references, gin_text

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
# Of several files that set a macro, the first of these has its default.
_DEFAULTS = (
  "runs/pretrain.gin",
  "models/base.gin",
  "data/loading.gin",
  "data/vocabulary.gin",
  "runs/optimizers/adamw.gin",
  "runs/schedules/cosine.gin",
  "compare.gin",
  "data/",
  "objectives/",
  "runs/",
)
_MOST_FILES = 6  # that set a macro are listed
_LARGEST = 2**31  # Bounds from here on only say what fits into 32 bits.


@dataclasses.dataclass(frozen=True)
class Setting:
  """A line of a shipped gin file: `name = value`, of a macro or of a parameter."""

  file: str
  name: str  # a macro; or the full name of a parameter, "t5x_style.data.loader.load.pack"
  value: Any
  comment: str
  target: gin_names.Target | None = None  # the function or class of a parameter


@functools.cache
def settings() -> tuple[Setting, ...]:
  """Returns the settings of all shipped gin files, each once."""
  return tuple(x for path in sorted(gin_files.SHIPPED.rglob("*.gin")) for x in _of_file(path))


def _of_file(path: Path) -> Iterator[Setting]:
  name = path.relative_to(gin_files.SHIPPED).as_posix()
  text = path.read_text()
  lines, imports = text.split("\n"), {}
  for statement, location in gin_text.parse_text(text, name):
    if isinstance(statement, config_parser.ImportStatement):
      imports.update(gin_names.import_module(statement, location))
    elif isinstance(statement, config_parser.BindingStatement):
      comment = _comment(lines, (location.line or 1) - 1)
      if not statement.arg_name:
        yield Setting(name, statement.selector, statement.value, comment)
        continue
      target = gin_names.resolve(statement.selector, imports, location)
      if target:
        full = f"{target}.{statement.arg_name}"
        yield Setting(name, full, statement.value, comment, target)


def _comment(lines: Sequence[str], number: int) -> str:
  """Returns the comment at the end of a line, or else that above it."""
  outside = re.sub(r"\"[^\"]*\"|'[^']*'", lambda x: "_" * len(x.group()), lines[number])
  if "#" in outside:
    return lines[number][outside.index("#") :].lstrip("# ").strip()
  above: list[str] = []
  while number > 0 and lines[number - 1].startswith("# ") and number > 1:
    number -= 1
    above.insert(0, lines[number].lstrip("# ").strip())
  return " ".join(above) if number > 1 else ""


@functools.cache
def required_macros() -> frozenset[str]:
  """Returns the macros that shipped files use and none of them sets: the user has to."""
  found = {x.name for s in settings() for x in gin_text.find(s.value, gin_text.Macro)}
  return frozenset(found - {s.name for s in settings() if not s.target})


def macros() -> list[str]:
  """Returns the names of all macros."""
  return sorted({s.name for s in settings() if not s.target} | required_macros())


def readers(macro: str) -> list[Setting]:
  """Returns the parameters that are bound to a macro, also through other macros."""
  names, found = {macro}, {macro}
  while found:
    found = {s.name for s in settings() if not s.target and _uses(s, names)} - names
    names |= found
  once = {s.name: s for s in settings() if s.target and _uses(s, names)}
  return [once[name] for name in sorted(once)]


def _uses(setting: Setting, names: set[str]) -> bool:
  return any(x.name in names for x in gin_text.find(setting.value, gin_text.Macro))


# ---- The facts of a parameter


def description(target: Any, parameter: str) -> str:
  """Returns what the docstring of a function or class says of a parameter, or the comment beside
  the field of a dataclass."""
  documented = [target, *getattr(target, "__mro__", ())[1:]]
  for owner in documented:
    text = _section_entry(inspect.getdoc(owner) or "", parameter) if owner.__doc__ else ""
    if text:
      return text
  return _field_comment(target, parameter) if inspect.isclass(target) else ""


def _section_entry(docstring: str, parameter: str) -> str:
  """Returns the entry of a parameter below Args: or Attributes:."""
  found = re.search(
    rf"^  (?:\w+, )*{parameter}(?:, \w+)*: (.*(?:\n(?:    .*|[ ]*))*)", docstring, re.MULTILINE
  )
  return " ".join(found.group(1).split()) if found else ""


def _field_comment(owner: type, parameter: str) -> str:
  """Returns the comment beside or above a field of a dataclass."""
  try:
    lines = textwrap.dedent(inspect.getsource(owner)).split("\n")
  except (OSError, TypeError):
    return ""
  (body,) = ast.parse("\n".join(lines)).body
  for node in getattr(body, "body", ()):
    if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == parameter:
      end = lines[(node.end_lineno or 1) - 1]
      if "  # " in end:
        return end.partition("  # ")[2]
      above, number = [], node.lineno - 2
      while lines[number].strip().startswith("# "):
        above.insert(0, lines[number].strip().lstrip("# "))
        number -= 1
      return " ".join(above)
  return ""


def type_in_words(annotation: Any) -> str:
  """Returns a type as a person says it: "whole number, 1 or more"."""
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  plain = {int: "whole number", float: "number", bool: "True or False", str: "text"}
  if annotation in plain:
    return plain[annotation]
  if annotation in (None, type(None)):
    return "None"
  if origin is Annotated:
    bounds = filter(None, (_bound(x) for x in _constraints(arguments[1:])))
    return ", ".join([type_in_words(arguments[0]), *bounds])
  if origin is typing.Literal:
    return "one of " + ", ".join(map(repr, arguments))
  if type(None) in arguments or str(origin) in ("typing.Union", "<class 'types.UnionType'>"):
    return ", or ".join(map(type_in_words, arguments))
  if origin is tuple:
    inner = "; ".join(type_in_words(x) for x in arguments if x is not ...)
    return f"tuple of {inner}"
  name = getattr(origin, "__name__", "")
  if name == "Mapping" and len(arguments) == 2:
    return f"dictionary of {type_in_words(arguments[0])} to {type_in_words(arguments[1])}"
  if name == "Sequence" and arguments:
    return f"list of {type_in_words(arguments[0])}"
  return "anything" if annotation is Any else gin_references.in_words(annotation)


def _constraints(metadata: Sequence[Any]) -> Iterator[Any]:
  for item in metadata:
    yield from item if isinstance(item, annotated_types.GroupedMetadata) else [item]


def _bound(constraint: Any) -> str:
  match constraint:
    case annotated_types.Ge(ge=low):
      return f"{low} or more"
    case annotated_types.Gt(gt=low):
      return f"above {low}"
    case annotated_types.Le(le=high) if high < _LARGEST:
      return f"{high} or less"
    case annotated_types.Lt(lt=high) if high < _LARGEST:
      return f"below {high}"
  return ""


def _said_in_gin(full_name: str) -> str:
  """Returns the comment of a shipped gin file beside a parameter, or beside its macro."""
  bound = [s for s in settings() if s.name == full_name]
  used = {x.name for s in bound for x in gin_text.find(s.value, gin_text.Macro)}
  said = [s.comment for s in bound] + [x.comment for x in map(_default_setting, used) if x]
  return next(filter(None, said), "")


def default_of(target: Any, parameter: str) -> str:
  """Returns the default of a parameter as Python; "" if it has to be given."""
  found = inspect.signature(target).parameters.get(parameter)
  if found is None or found.default is found.empty:
    return ""
  if type(found.default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS":
    factory = next(x for x in dataclasses.fields(target) if x.name == parameter).default_factory
    return f"{getattr(factory, '__name__', factory)}()"
  return repr(found.default)


# ---- The pages


def _default_setting(macro: str) -> Setting | None:
  given = [s for s in settings() if s.name == macro and not s.target]
  ranked = [s for start in _DEFAULTS for s in given if s.file.startswith(start)]
  return next(iter(ranked), None)


def _code(value: Any) -> str:
  """Returns a value as gin writes it, in code marks."""

  def written(x: gin_text.Reference) -> gin_text.Verbatim:
    call = "()" if x.evaluate else ""
    return gin_text.Verbatim(f"@{gin_text.join(x.scope, x.selector)}{call}")

  text = " ".join(repr(gin_text.replace(value, gin_text.Reference, written)).split())
  return f"`{text if len(text) <= 160 else text[:157] + '...'}`"


def _of_parameter(setting: Setting) -> Iterator[str]:
  """Yields the lines about the parameter that a setting binds."""
  assert setting.target is not None
  target, parameter = setting.target, setting.name.rpartition(".")[2]
  kinds = gin_references.annotations(target.object)
  if parameter in kinds:
    yield f"- **Type:** {_safe(type_in_words(kinds[parameter]))}"
  file = Path(inspect.getsourcefile(target.object) or "").resolve().relative_to(ROOT)
  yield f"- **Read as:** `{target.written}.{parameter}`, in `{file}`"
  if about := description(target.object, parameter):
    yield f"- **What it does:** {_safe(about)}"


def _safe(text: str) -> str:
  """Returns a text of the code as Markdown that shows it as it is."""
  parts = re.split(r"(`[^`]*`)", text)
  return "".join(
    x if x.startswith("`") else re.sub(r"([\\*_<>\[\]$|#])", r"\\\1", x) for x in parts
  )


def macro_entry(macro: str) -> str:
  """Returns the part of the page about a macro."""
  lines, default = [f"## {macro}", ""], _default_setting(macro)
  if default and default.comment:
    lines += [_safe(default.comment[:1].upper() + default.comment[1:]), ""]
  if default is None:
    used = sorted({s.file for s in settings() if _uses(s, {macro})})
    lines.append(f"- **Default:** none; a run that includes {_files(used)} has to set it.")
  else:
    lines.append(f"- **Default:** {_code(default.value)}, in `gin_configs/{default.file}`")
  others = [s for s in settings() if s.name == macro and not s.target and s is not default]
  others.sort(key=lambda s: s.file.count("/"))  # Runs that one starts come first.
  if others:
    shown = [f"`{s.file}`: {_code(s.value)}" for s in others[:_MOST_FILES]]
    more = f"; and {len(others) - _MOST_FILES} more" if len(others) > _MOST_FILES else ""
    lines.append(f"- **{'Also set' if default else 'Set'} in:** {'; '.join(shown)}{more}")
  for reader in readers(macro):
    lines += _of_parameter(reader)
  return "\n".join(lines) + "\n"


def _files(names: Sequence[str]) -> str:
  return " or ".join(f"`{name}`" for name in names)


def parameters() -> Mapping[str, tuple[gin_names.Target, list[str]]]:
  """Returns {name: (function or class, its parameters)} of all that shipped gin files bind."""
  found: dict[str, gin_names.Target] = {}
  for setting in settings():
    if setting.target:
      found.setdefault(str(setting.target), setting.target)
  return {name: (found[name], list(found[name].parameters)) for name in sorted(found)}


def target_entry(target: gin_names.Target, names: Sequence[str]) -> str:
  """Returns the part of the page about a function or class: all its parameters."""
  about = (inspect.getdoc(target.object) or "").partition("\n")[0]
  lines = [f"## {target.written}", "", _safe(about), ""]
  module = f"from {target.module.rpartition('.')[0]} import {target.module.rpartition('.')[2]}"
  lines += ["```python", module, "```", ""]
  kinds = gin_references.annotations(target.object)
  for name in names:
    default = default_of(target.object, name)
    kind = type_in_words(kinds[name]) if name in kinds else ""
    facts = [_safe(kind), f"default `{default}`" if default else "no default"]
    bound = {s.file: s for s in settings() if s.name == f"{target}.{name}"}
    if bound:
      first = min(bound, key=lambda x: (not x.startswith(_DEFAULTS), x))
      facts.append(f"{_code(bound[first].value)} in `{first}`")
    lines += [f"`{name}`", f": {'; '.join(filter(None, facts))}."]
    if text := description(target.object, name) or _said_in_gin(f"{target}.{name}"):
      lines += ["", f"  {_safe(text)}"]
    lines.append("")
  return "\n".join(lines)


def pages() -> dict[str, str]:
  """Returns {file name: text} of the pages of this reference."""
  entries = "\n".join(map(macro_entry, macros()))
  targets = "\n".join(target_entry(*x) for x in parameters().values())
  return {
    "gin_macros.md": f"{_MACROS}\n{entries}",
    "gin_parameters.md": f"{_PARAMETERS}\n{targets}",
  }


_MACROS = """\
# Settings in capitals

All names in capitals that the shipped gin files know, in alphabetical order. Set one in your gin
file, `TRAIN_STEPS = 1000`, or on the command line, `--gin.TRAIN_STEPS=1000`; a text needs quotes of
its own, `--gin.MODEL_DIR="'/tmp/x'"`. The default is the one of the file that is named; a file that
is included later may set another. A misspelt name ends the command at once, and the message names
the nearest one.
"""
_PARAMETERS = """\
# Parameters of functions and classes

Everything that the shipped gin files bind. A gin file imports the module and sets
`module.Name.parameter = value`; on the command line the last parts of the name suffice:
`--gin.TransformerConfig.norm="'layer'"`. Every value is checked against the type before anything is
built.
"""


def _write(app: Any) -> None:
  for name, text in pages().items():
    write_if_changed(FOLDER / name, text)


def setup(app: Any) -> dict[str, bool]:
  app.connect("builder-inited", _write)
  return {"parallel_read_safe": True}
