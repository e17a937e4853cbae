"""A Sphinx extension: writes the reference of everything that gin can set, from the code.

A name in capitals (a macro) is described by the comment beside it in the gin files, and by the
docstring of the parameter that it is bound to; types and defaults are those of the code. Nothing on
these pages is written by hand, so they cannot become outdated. It imports no part of Sphinx.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from command_reference import write_if_changed
from gin import config_parser

from launch.configuration import gin_files, gin_names, gin_text, parameter_facts

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


def said_of(target: gin_names.Target, name: str) -> str:
  """Returns what the code says of a parameter; "as in Records" becomes what Records says."""
  text = parameter_facts.documentation(target).get(name, "")
  found = re.match(r"as (?:in|of) `?(\w+)`?(.*)", text)
  others = (
    [t for t, names in parameters().values() if t.path == found[1] and name in names]
    if found
    else []
  )
  if not found or not others:
    return text
  return said_of(others[0], name).rstrip(".") + found[2]


def _said_in_gin(full_name: str) -> str:
  """Returns the comment of a shipped gin file beside a parameter, or beside its macro."""
  bound = [s for s in settings() if s.name == full_name]
  used = {x.name for s in bound for x in gin_text.find(s.value, gin_text.Macro)}
  said = [s.comment for s in bound] + [x.comment for x in map(_default_setting, used) if x]
  return next(filter(None, said), "")


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

  value = gin_text.replace(value, gin_text.Reference, written)
  value = gin_text.replace(value, float, lambda x: gin_text.Verbatim(f"{x:g}") if x >= 1e6 else x)
  text = " ".join(repr(value).split())
  return f"`{text if len(text) <= 160 else text[:157] + '...'}`"


def _reader_lines(found: Sequence[Setting]) -> Iterator[str]:
  """Yields the lines about the parameters that a macro is read through."""
  targets = [(s.target, s.name.rpartition(".")[2]) for s in found if s.target]
  kinds = dict.fromkeys(filter(None, (parameter_facts.kind(*x) for x in targets)))
  if kinds:
    yield f"- **Type:** {_safe('; '.join(kinds))}"
  places = dict.fromkeys(
    f"`{target.written}.{name}` in `{_file(target)}`" for target, name in targets
  )
  if places:
    yield f"- **Read as:** {', '.join(places)}"
  about = [said_of(target, name) for target, name in targets]
  for text in dict.fromkeys(filter(None, about)):
    yield f"- **What the code says of it:** {_safe(text)}"


def _file(target: gin_names.Target) -> str:
  """Returns the file that a function or class is in."""
  source = inspect.getsourcefile(inspect.unwrap(target.object)) or target.module
  return Path(source).resolve().relative_to(ROOT).as_posix()


def _safe(text: str) -> str:
  """Returns a text of the code as Markdown that shows it as it is."""
  parts = re.split(r"(`[^`]*`)", text)
  return "".join(
    x if x.startswith("`") else re.sub(r"([\\*_<>\[\]$|#])", r"\\\1", x) for x in parts
  )


def macro_entry(macro: str) -> str:
  """Returns the part of the page about a macro."""
  lines, default = [f"## {macro}", ""], _default_setting(macro)
  others = [s for s in settings() if s.name == macro and not s.target and s is not default]
  others.sort(key=lambda s: s.file.count("/"))  # Runs that one starts come first.
  said = next((s.comment for s in (default, *others) if s and s.comment), "")
  if said:
    lines += [_safe(said[:1].upper() + said[1:]), ""]
  if default is None:
    used = sorted({s.file for s in settings() if _uses(s, {macro})})
    lines.append(f"- **Default:** none; a run that includes {_files(used)} has to set it.")
  else:
    lines.append(f"- **Default:** {_code(default.value)}, in `gin_configs/{default.file}`")
  if others:
    shown = [f"`{s.file}`: {_code(s.value)}" for s in others[:_MOST_FILES]]
    more = f"; and {len(others) - _MOST_FILES} more" if len(others) > _MOST_FILES else ""
    lines.append(f"- **{'Also set' if default else 'Set'} in:** {'; '.join(shown)}{more}")
  lines += _reader_lines(readers(macro))
  return "\n".join(lines) + "\n"


def _files(names: Sequence[str]) -> str:
  return " or ".join(f"`{name}`" for name in names)


def _default_in_code(target: gin_names.Target, name: str) -> str:
  parameter = target.parameters[name]
  if parameter.default is parameter.empty:
    return "no default"
  return f"default `{parameter_facts.default(parameter.default)}`"


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
  for name in names:
    facts = [_safe(parameter_facts.kind(target, name)), _default_in_code(target, name)]
    bound = {s.file: s for s in settings() if s.name == f"{target}.{name}"}
    if bound:
      first = min(bound, key=lambda x: (not x.startswith(_DEFAULTS), x))
      value = bound[first].value
      shown = _code(value)
      if isinstance(value, gin_text.Macro):
        shown = f"[{shown}](gin_macros.md#{value.name.lower()})"
      facts.append(f"{shown} in `{first}`")
    lines += [f"`{name}`", f": {'; '.join(filter(None, facts))}."]
    if text := said_of(target, name) or _said_in_gin(f"{target}.{name}"):
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
