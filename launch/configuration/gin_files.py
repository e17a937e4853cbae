"""Reads gin files: where they are, what they include, and every binding with its location.

gin can read them itself, but when a name is misspelt it does not suggest the right one and does
not always say the line, and on the command line it does not know what the files import. So the
files are read and checked here, and handed to gin as one text.
"""

import codecs
import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from gin import config_parser

from ..process.errors import ConfigurationError, did_you_mean, nearest
from . import renamed
from .gin_names import Imports, import_module
from .gin_text import Reference, SourceLocation, parse_text, replace

COMMAND_LINE = "command line"
_MOST_OPEN = 50  # gin files that include each other
# The folder beside that of the commands, in a clone and where the package is installed.
SHIPPED = Path(__file__).resolve().parents[2] / "gin_configs"


@dataclasses.dataclass(frozen=True)
class Binding:
  """`scope/selector.argument = value`; the argument of a macro is ""."""

  scope: str
  selector: str
  argument: str
  value: Any
  location: SourceLocation
  imports: Imports  # of its file


class _FileNames:
  """The names that one file imports; former names are translated to those of today."""

  def __init__(self, import_module: Callable[[Any, SourceLocation], Imports]):
    self._import_module = import_module
    self._former: dict[str, tuple[config_parser.ImportStatement, SourceLocation]] = {}
    self.imports: Imports = {}

  def add(self, statement: config_parser.ImportStatement, location: SourceLocation) -> None:
    self._former.pop(statement.bound_name(), None)
    if statement.module in renamed.FORMER_MODULES and (statement.is_from or statement.alias):
      self._former[statement.bound_name()] = (statement, location)
    else:
      self.imports.update(self._import_module(statement, location))

  def today(self, selector: str) -> str:
    """Returns a selector of the file under its name of today, and imports its module."""
    first, _, name = selector.partition(".")
    if first not in self._former:
      return selector
    statement, location = self._former[first]
    found = renamed.today(statement.module, name)
    if not found:
      self.imports.update(self._import_module(statement, location))
      return selector
    module, name = found
    alias = module.replace(".", "_")  # no name that the file itself uses
    statement = statement._replace(module=module, is_from=True, alias=alias)
    self.imports.update(self._import_module(statement, location))
    return f"{alias}.{name}"

  def reference_today(self, reference: Reference) -> Reference:
    return dataclasses.replace(reference, selector=self.today(reference.selector))


class GinFiles:
  """The bindings of gin files and of their includes, in the order in which they take effect."""

  def __init__(
    self,
    search_paths: Sequence[str] = (),
    import_module: Callable[[Any, SourceLocation], Imports] = import_module,
  ):
    self._import_module = import_module
    self.bindings: list[Binding] = []
    self.imports: Imports = {}
    self._search_paths = [epath.Path(path).expanduser() for path in search_paths]
    self._open: list[epath.Path] = []

  def read(self, name: str, included_at: SourceLocation | None = None) -> None:
    """Reads a file; an include is read at its line.

    Raises:
      ConfigurationError: a file does not exist, is not gin, or imports what does not exist.
    """
    path = self._find(name, included_at)
    if len(self._open) == _MOST_OPEN:
      raise ConfigurationError(f"Includes are nested more than {_MOST_OPEN} deep: {name!r} is.")
    if path in self._open:
      chain = " -> ".join(shown(p) for p in [*self._open, path])
      raise ConfigurationError(f"Gin files include each other: {chain}.")
    self._open.append(path)
    names = _FileNames(self._import_module)
    for statement, location in parse_text(_text(path), shown(path)):
      if isinstance(statement, config_parser.IncludeStatement):
        self.read(statement.filename, location)
      elif isinstance(statement, config_parser.ImportStatement):
        names.add(statement, location)
      elif isinstance(statement, config_parser.BindingStatement):
        scope, selector, argument, value, _ = statement
        selector = names.today(selector) if argument else selector
        value = replace(value, Reference, names.reference_today)
        self.bindings.append(Binding(scope, selector, argument, value, location, names.imports))
    self.imports |= names.imports
    self._open.pop()

  def _find(self, name: str, included_at: SourceLocation | None) -> epath.Path:
    """Returns the path of a gin file in the first folder that has it.

    The folders are the working directory, --gin_search_paths and the shipped files (their names may
    begin with "gin_configs/"). An include is looked for first in the folder of the including file,
    and, if that is a shipped file, among the shipped files.
    """
    shipped = epath.Path(SHIPPED)
    folders = [epath.Path(Path.cwd()), *self._search_paths, shipped]
    if included_at:
      beside = self._open[-1].parent
      own = [shipped] if beside.is_relative_to(shipped) else []
      folders = list(dict.fromkeys([beside, *own, *folders]))
    # A path with a scheme (gs://...) is absolute too: joined to any folder it stays the same.
    path = epath.Path(name).expanduser()
    candidates = [path] if path.is_absolute() else [folder / path for folder in folders]
    if name.startswith(f"{SHIPPED.name}/"):
      candidates.append(shipped.parent / name)
    for path in candidates:
      if path.is_file():
        return path.resolve()
    raise ConfigurationError(_not_found(name, folders, included_at))


def _text(path: epath.Path) -> str:
  """Returns the content of a gin file, with Unix line ends.

  Raises:
    ConfigurationError: it is not text in UTF-8.
  """
  content = path.read_bytes()
  if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
    raise ConfigurationError(f"{shown(path)} is not text in UTF-8; save it as UTF-8.")
  try:
    text = content.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    line = content.count(b"\n", 0, error.start) + 1
    raise ConfigurationError(
      f"{shown(path)} is not text in UTF-8 (line {line}); save it as UTF-8."
    ) from error
  return text.replace("\r\n", "\n").replace("\r", "\n")


def _not_found(name: str, folders: Sequence[epath.Path], included_at: SourceLocation | None) -> str:
  # Of two files with the same name the one nearer to the top: that is the one that people start.
  files = {Path(file).name: file for file in sorted(shipped_files(), key=lambda f: -f.count("/"))}
  same = files.get(Path(name).name)
  near = [same] if same else [files[n] for n in nearest(Path(name).name, files, 2)]
  folder = next((f for f in folders if (f / name).is_dir()), None)
  return (
    (f"{name!r} is a folder, not a gin file." if folder else f"There is no gin file {name!r}.")
    + (f" Did you mean {' or '.join(map(repr, near))}?" if near else "")
    + (included_at.quoted() if included_at else "")
    + f"\n  Looked in {', '.join(str(folder) for folder in folders)}."
    + (f"\n  Shipped are {', '.join(sorted(files.values()))}." if files and not near else "")
  )


def shown(path: Path) -> str:
  """Returns a path as a person writes it: relative to the working directory if it is below that,
  beginning with "gin_configs/" if it is a shipped file."""
  for base in (Path.cwd(), SHIPPED.parent):
    if path.is_relative_to(base):
      return str(path.relative_to(base))
  return str(path)


def shipped_files(pattern: str = "") -> list[str]:
  """Returns the names of the shipped gin files that have a line beginning with `pattern`, a regular
  expression."""
  line = re.compile(f"^{pattern}", re.MULTILINE)
  return [
    path.relative_to(SHIPPED).as_posix()
    for path in sorted(SHIPPED.rglob("*.gin"))
    if line.search(path.read_text())
  ]


def parse_binding(text: str, known: Sequence[Binding], imports: Imports) -> Binding:
  """Parses a binding of the command line: `NAME = value` or `name.parameter = value`.

  If the files set a macro to a string, its new value needs no quotes.

  Args:
    known: the bindings of the files; imports: all that the files import.

  Raises:
    ConfigurationError: it is not a binding; the message says what to write.
  """
  name, equals, value = (part.strip() for part in text.partition("="))
  if not (name and equals and value):
    raise ConfigurationError(f"--gin.{text.strip()} sets nothing; write --gin.NAME=value.")
  location = SourceLocation(COMMAND_LINE, None, f"--gin.{name}={value}")
  try:
    ((statement, _),) = parse_text(f"{name} = {value}", COMMAND_LINE)
    scope, selector, argument, parsed, _ = statement
  except ValueError as error:  # Not gin, more than one statement, or one of another kind.
    is_string = {b.selector: isinstance(b.value, str) for b in known if not b.argument}
    if is_string.get(name) and not re.search(r"[\"'\[\](){}@%]", value):
      return Binding("", name, "", value, location, imports)
    raise ConfigurationError(
      f"gin cannot read the value {value}; a string is written --gin.{name}=\"'text'\"."
      f"{location.quoted()}{did_you_mean(value, ['True', 'False', 'None'])}"
    ) from error
  bound = {b.selector for b in known if b.argument}

  def today(reference: Reference) -> Reference:
    name = renamed.today_on_command_line(reference.selector, bound)
    return dataclasses.replace(reference, selector=name)

  if argument:
    selector = renamed.today_on_command_line(selector, bound)
  return Binding(scope, selector, argument, replace(parsed, Reference, today), location, imports)
