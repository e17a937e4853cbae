"""gin's syntax: from a text to its statements, and from values back to text."""

import contextlib
import dataclasses
import io
import pprint
import tokenize
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gin import config_parser

from ..process.errors import ConfigurationError

_WIDTH = 92
_WIDEST = 300  # of a line that a message quotes
_LARGEST_BITS = 10_000  # of a whole number; Python prints at most 4,300 digits


class SourceLocation(NamedTuple):
  """Where something is written: a line of a file, or the command line."""

  source: str
  line: int | None
  text: str

  def __str__(self):
    return f"{self.source}:{self.line}" if self.line else self.source

  def quoted(self) -> str:
    """Returns the location and its text, as the last line of an error message."""
    text = self.text.strip()
    return f"\n  {self}: {text[:_WIDEST]}{' ...' * (len(text) > _WIDEST)}"


@dataclasses.dataclass(frozen=True)
class Macro:
  """%NAME in a value."""

  name: str

  def __repr__(self):
    return f"%{self.name}"


@dataclasses.dataclass(frozen=True)
class Reference:
  """@scope/selector in a value, or, to be evaluated, @scope/selector()."""

  scope: str
  selector: str
  evaluate: bool


@dataclasses.dataclass(frozen=True)
class Verbatim:
  """A part of a value whose repr is `text`."""

  text: str

  def __repr__(self):
    return self.text


class _Leaves(config_parser.ParserDelegate):
  """Has gin's parser put Reference and Macro into values, as they are written."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    scope, _, selector = scoped_configurable_name.rpartition("/")
    return Reference(scope, selector, evaluate)

  def macro(self, macro_name):
    return Macro(macro_name)


def parse_text(text: str, source: str) -> Iterator[tuple[Any, SourceLocation]]:
  """Yields the statements of a gin text, each with the line in which it begins.

  Raises:
    ConfigurationError: it is not gin.
  """
  lines = text.split("\n")

  def location_of(line: int | None) -> SourceLocation:
    line = min(line or 1, len(lines))
    return SourceLocation(source, line, lines[line - 1] if lines else "")

  try:
    for statement in config_parser.ConfigParser(text, _Leaves()):
      location = location_of(statement.location.line_num)
      _check_printable(getattr(statement, "value", None), location)
      yield statement, location
  except ConfigurationError:
    raise
  except SyntaxError as error:
    message = " ".join((error.msg or "").split())
    raise ConfigurationError(
      f"gin syntax: {message}{location_of(error.lineno).quoted()}"
    ) from error
  except tokenize.TokenError as error:
    message, (line, _) = error.args
    # Not where a text in brackets lacks its closing quotation mark: that is the fault to correct.
    if "multi-line statement" in message and (opened := _unclosed_bracket(text)):
      message, line = "a bracket is never closed", opened
    raise ConfigurationError(f"gin syntax: {message}.{location_of(line).quoted()}") from error
  except (ValueError, TypeError) as error:  # [1] as a key, a number of 5,000 digits
    message = str(error).splitlines()[0].partition(";")[0]
    raise ConfigurationError(f"gin syntax: {source}: {message}.") from error
  except (RecursionError, MemoryError) as error:
    raise ConfigurationError(f"gin syntax: {source} nests values too deep.") from error


def _unclosed_bracket(text: str) -> int | None:
  """Returns the line of the outermost bracket that is open at the end of the text."""
  opened = []
  with contextlib.suppress(tokenize.TokenError):
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
      if token.type == tokenize.OP and token.string in "([{":
        opened.append(token.start[0])
      elif token.type == tokenize.OP and token.string in ")]}" and opened:
        opened.pop()
  return opened[0] if opened else None


def _check_printable(value: Any, location: SourceLocation) -> None:
  if any(number.bit_length() > _LARGEST_BITS for number in find(value, int)):
    raise ConfigurationError(f"A number has too many digits.{location.quoted()}")
  if any("\0" in text for text in find(value, str)):
    raise ConfigurationError(f"A text holds the character NUL (\\0).{location.quoted()}")


def find(value: Any, kind: type) -> Iterator[Any]:
  """Yields all parts of one kind inside a value."""
  if isinstance(value, kind):
    yield value
  elif isinstance(value, dict):
    for item in [*value.keys(), *value.values()]:
      yield from find(item, kind)
  elif isinstance(value, list | tuple):
    for item in value:
      yield from find(item, kind)


def replace(value: Any, kind: type, by: Callable[[Any], Any]) -> Any:
  """Returns the value with every part of one kind replaced."""
  if isinstance(value, kind):
    return by(value)
  if isinstance(value, dict):
    return {replace(k, kind, by): replace(v, kind, by) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return type(value)(replace(item, kind, by) for item in value)
  return value


def join(scope: str, name: str) -> str:
  return f"{scope}/{name}" if scope else name


def binding_text(name: str, value: Any, comment: str = "") -> str:
  """Returns `name = value  # comment`, or several lines below the comment if the value is long."""
  text = pprint.pformat(value, width=_WIDTH - len(name), sort_dicts=False)
  if "\n" not in text:
    return f"{name} = {text}" + (f"  # {comment}" if comment else "")
  text = pprint.pformat(value, width=_WIDTH, sort_dicts=False).replace("\n", "\n    ")
  return (f"# {comment}\n" if comment else "") + f"{name} = \\\n    {text}"
