"""Where every setting of a run comes from, and what it does: what --explain shows."""

import dataclasses
import io
import re
import shutil
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any

from . import parameter_facts, t5x_names
from .gin_checks import Bound
from .gin_names import ResolvedReference
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
    targets = [(use.target, use.name) for use in uses if use.target]
    documented = (parameter_facts.documentation(x).get(parameter, "") for x, parameter in targets)
    yield Setting(
      name,
      _shown_value(bound.value),
      bound.location,
      _earlier(bound),
      about=_about(bound, next(filter(None, documented), "")),
      kind=next((parameter_facts.kind(*target) for target in targets), ""),
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
        about=_about(bound, parameter_facts.documentation(bound.target).get(bound.name, "")),
        kind=parameter_facts.kind(bound.target, bound.name),
        t5x=t5x_names.of(name),
      )


def defaults(settings: Configuration) -> Iterator[Setting]:
  """Yields the parameters of all that is bound or referenced which nothing sets, with defaults."""
  given = {(str(bound.target), bound.name) for bound in settings.bound}
  for target in sorted(settings.targets, key=str):
    if target.missing:
      continue
    about = parameter_facts.documentation(target)
    for name, parameter in target.parameters.items():
      if parameter.default is parameter.empty or (str(target), name) in given:
        continue
      yield Setting(
        f"{target.written}.{name}",
        parameter_facts.default(parameter.default),
        SourceLocation(*parameter_facts.place_in_code(target, name), ""),
        about=about.get(name, ""),
        kind=parameter_facts.kind(target, name),
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


def _about(bound: Bound, documented: str) -> str:
  """Returns what a setting does: the comment where it is bound first, and its documentation."""
  comment = next(filter(None, map(_comment, reversed(list(bound.history())))), "")
  first, *others = dict.fromkeys(text.rstrip(".") for text in (comment, documented) if text) or [""]
  # A later sentence begins with a capital letter, unless it begins with a name of the code.
  begun = (x[0].upper() + x[1:] if re.match(r"[a-z]+[ ,;:]", x) else x for x in others)
  return ". ".join([first, *begun])


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
