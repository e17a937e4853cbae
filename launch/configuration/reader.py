"""From gin files and bindings to configured functions and classes, checked first.

Only this file uses gin's engine, which calls functions with their bound parameters.
"""

import copy
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import gin
from gin import config_parser

from ..process import environment
from ..process.errors import ConfigurationError, did_you_mean
from . import gin_checks
from .gin_checks import Bound
from .gin_files import (
  COMMAND_LINE,
  Binding,
  GinFiles,
  parse_binding,
  shipped_files,
)
from .gin_names import (
  Imports,
  ResolvedReference,
  Target,
  import_module,
  listed,
  resolve,
)
from .gin_text import (
  Macro,
  Reference,
  SourceLocation,
  Verbatim,
  binding_text,
  find,
  join,
  parse_text,
  replace,
)

_DEFAULT = SourceLocation("default", None, "")


def read(
  gin_files: Sequence[str],
  bindings: Sequence[str] = (),
  search_paths: Sequence[str] = (),
  overrides: Mapping[str, Any] | None = None,
  without: Sequence[str] = (),
) -> "Configuration":
  """Reads and checks a configuration, and hands it to gin.

  Args:
    gin_files: names or paths; later ones override earlier ones.
    bindings: `NAME = value` or `name.parameter = value`; they override the files.
    search_paths: folders in which files and includes are looked for, after the working directory.
    overrides: {"module.Class.parameter": value}, applied if the files import that module.
    without: packages that are not imported, so that a run can be read without the packages its data
      needs. Parameters bound in them are dropped; references to them become None.

  Raises:
    ConfigurationError: naming the file and line, or the flag, and what to write instead.
  """
  if not gin_files:
    starts = [name for name in shipped_files() if "/" not in name]
    raise ConfigurationError(
      "No configuration is given. Start with --gin_file=quickstart.gin"
      + (f"; there are {', '.join(starts)}." if starts else ".")
    )
  files = GinFiles(search_paths, functools.partial(import_module, without=without))
  for name in gin_files:
    files.read(name)
  given = [parse_binding(text, files.bindings, files.imports) for text in bindings]
  for dotted, value in (overrides or {}).items():
    module, name, parameter = dotted.rsplit(".", 2)
    location = SourceLocation(COMMAND_LINE, None, f"{name}.{parameter} = {value!r}")
    alias = next((a for a, m in files.imports.items() if m.__name__ == module), None)
    if alias:
      given.append(Binding("", f"{alias}.{name}", parameter, value, location, files.imports))
  return Configuration([*files.bindings, *given])


class Configuration:
  """The checked bindings of gin files and of the command line.

  gin has one global state: a new Configuration replaces the one before.
  """

  def __init__(self, bindings: Iterable[Binding]):
    """Checks the bindings, of which later ones override earlier ones, and hands them to gin."""
    self._macros: dict[str, Bound] = {}
    self._bound: dict[tuple[str, int, str], Bound] = {}
    self._used: list[Bound] = []  # defaults that were used before gin had another configuration
    for binding in bindings:
      self._bind(binding)
    self._check()
    self.use()

  def use(self) -> None:
    """Hands the bindings to gin, in place of those that it has."""
    gin.clear_config()
    gin.parse_config(self._text(self._bound.values(), comments=False))

  def _check(self) -> None:
    every = [*self._macros.values(), *self._bound.values()]
    references = [(ref, b.location) for b in every for ref in find(b.value, ResolvedReference)]
    targets = [b.target for b in self._bound.values()] + [ref.target for ref, _ in references]
    self._targets = {id(target.object): target for target in targets if target}
    gin_checks.check_macros(self._macros, every)
    gin_checks.check_scopes(every)
    gin_checks.check_circles(self._macros, self._bound.values())
    gin_checks.check_values(self._macros, self._bound.values())
    for reference, location in references:
      if reference.evaluate:
        self._check_required(reference.target, location)

  def configured(self, target: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function or class with its parameters bound; the caller passes the others.

    Raises:
      ConfigurationError: the gin files do not mention it.
    """
    if id(target) not in self._targets:
      name = target.__name__
      files = shipped_files(rf"(\S*[./])?{name}[.:]")
      raise ConfigurationError(
        f"The gin files say nothing about {name} of {target.__module__}."
        + (f" Include one of {', '.join(files)}, or give it with --gin_file." if files else "")
      )
    return gin.get_configurable(target)

  def build(self, target: Callable[..., Any]) -> Any:
    """Calls the configured function or class; all arguments are from the configuration."""
    configured = self.configured(target)
    self._check_required(self._targets[id(target)], None)
    return configured()

  def argument(self, dotted: str) -> Any:
    """Returns what is bound to a parameter, built: an object, not a reference to its class.

    Args:
      dotted: such as "t5x_style.data.loader.load.corpus".

    Returns:
      The value; None if there is none.
    """
    name, _, parameter = dotted.rpartition(".")
    found = [x.object for x in self._targets.values() if str(x) == name and not x.missing]
    return gin.get_bindings(found[0]).get(parameter) if found else None

  def macro(self, name: str, default: Any = None) -> Any:
    """Returns the value of a macro; if that is a macro again, the value of that one."""
    while name in self._macros:
      value = self._macros[name].value
      if not isinstance(value, Macro):
        return value
      name = value.name
    return default

  def written(self, name: str) -> Bound | None:
    """Returns a macro as it is written, with the macros and references in it; None if not set.

    If its value is another macro, it is that one.
    """
    found = self._macros.get(name)
    while found and isinstance(found.value, Macro) and found.value.name in self._macros:
      found = self._macros[found.value.name]
    return found

  def with_macros(self, values: Mapping[str, Any], location: SourceLocation) -> "Configuration":
    """Returns this configuration with other values of macros. gin has it, until `use` is called.

    Args:
      values: {name: value as it is written}.
      location: where they are written.
    """
    self._used = self._defaults()
    other = copy.copy(self)
    changed = {
      name: Bound("", None, name, value, location, self._macros.get(name))
      for name, value in values.items()
    }
    other._macros = self._macros | changed
    other._check()
    other.use()
    return other

  def with_values(
    self, macros: Mapping[str, Any], parameters: Mapping[str, Any], location: SourceLocation
  ) -> "Configuration":
    """Returns this configuration with other values, as if a later file had set them; gin has it.

    Args:
      macros: {name: value as it is written}.
      parameters: {full name such as "t5x_style.models.config.TransformerConfig.emb_dim": value}, of
        functions and classes that the gin files mention.
      location: where they are written.
    """
    other = self.with_macros(macros, location)
    other._used, other._bound = [], dict(self._bound)
    for dotted, value in parameters.items():
      name, _, parameter = dotted.rpartition(".")
      target = next(x for x in self._targets.values() if str(x) == name)
      key = ("", id(target.object), parameter)
      other._bound[key] = Bound("", target, parameter, value, location, self._bound.get(key))
    other._check()
    other.use()
    return other

  def parameters_with(self, macro: str) -> list[str]:
    """Returns the full names of the parameters whose value depends on a macro."""
    names, found = {macro}, {macro}
    while found:
      found = {
        name
        for name, bound in self._macros.items()
        if name not in names and any(m.name in names for m in find(bound.value, Macro))
      }
      names |= found
    return sorted(
      f"{bound.target}.{bound.name}"
      for bound in self._bound.values()
      if any(m.name in names for m in find(bound.value, Macro))
    )

  @property
  def macros(self) -> Mapping[str, Bound]:
    """All macros that are set, as they are written."""
    return self._macros

  @property
  def bound(self) -> Collection[Bound]:
    """All parameters that are set, as they are written."""
    return self._bound.values()

  @property
  def targets(self) -> Collection[Target]:
    """All functions and classes whose parameters are set, or that a value refers to."""
    return self._targets.values()

  def operative(self) -> str:
    """Returns a complete gin text that repeats the run.

    It holds everything that was set, with where it was set, and the defaults of what was called so
    far: if a default changes later, the repeated run does not change.
    """
    return (
      "# The configuration of this run. To repeat it somewhere else:\n"
      f"#   python -m {environment.PACKAGE}.train --gin_file=THIS_FILE "
      "--gin.MODEL_DIR=\"'/another/directory'\"\n\n"
      + self._text([*self._bound.values(), *self._defaults()], comments=True)
    )

  def values(self) -> dict[str, str]:
    """Returns {name: value} of everything that was set, and the defaults of what was called."""

    def reference(ref: ResolvedReference) -> Verbatim:
      return Verbatim(f"@{join(ref.scope, str(ref.target))}{'()' if ref.evaluate else ''}")

    named = dict(self._macros)
    for item in [*self._bound.values(), *self._defaults()]:
      named[join(item.scope, f"{item.target}.{item.name}")] = item
    return {
      name: repr(replace(item.value, ResolvedReference, reference)) for name, item in named.items()
    }

  def _bind(self, binding: Binding) -> None:
    value = replace(
      binding.value,
      Reference,
      lambda reference: ResolvedReference(
        reference.scope,
        self._resolve(reference.selector, binding.imports, binding.location),
        reference.evaluate,
      ),
    )
    if not binding.argument:
      name = join(binding.scope, binding.selector)
      earlier = self._macros.get(name)
      self._macros[name] = Bound("", None, name, value, binding.location, earlier)
      return
    target = self._resolve(binding.selector, binding.imports, binding.location)
    target.check_parameter(binding.argument, binding.location)
    key = (binding.scope, id(target.object), binding.argument)
    self._bound[key] = Bound(
      binding.scope, target, binding.argument, value, binding.location, self._bound.get(key)
    )

  def _resolve(self, selector: str, imports: Imports, location: SourceLocation) -> Target:
    """Resolves a dotted selector in the scope of the file that it is in.

    A selector of the command line may be what any file could write, or the last parts of a name
    that the files bind.
    """
    target = resolve(selector, imports, location)
    if target:
      return target
    if location.source != COMMAND_LINE:
      first = selector.split(".")[0]
      raise ConfigurationError(
        f"This file imports nothing called {first!r}.{did_you_mean(first, imports)} Modules are "
        "imported, and what is in them is named after a dot: `from t5x_style.models import "
        f"config`, then `config.TransformerConfig`.{location.quoted()}"
      )
    known = {str(b.target): b.target for b in self._bound.values() if b.target}
    found = [target for name, target in known.items() if f".{name}".endswith(f".{selector}")]
    if len({id(target.object) for target in found}) == 1:
      return found[0]
    if found:
      several = " or ".join(map(str, found))
      raise ConfigurationError(
        f"{selector!r} may mean {several}: write more of it.{location.quoted()}"
      )
    names = [target.path for target in known.values()]
    advice = did_you_mean(selector, names) or f" They bind {listed(names)}."
    raise ConfigurationError(
      f"The gin files bind nothing called {selector!r}.{advice}{location.quoted()}"
    )

  def _check_required(self, target: Target, location: SourceLocation | None) -> None:
    """Checks that all required parameters of a target are bound: @name() passes no arguments."""
    given = {b.name for b in self._bound.values() if b.target and b.target.object is target.object}
    missing = [name for name in target.required if name not in given]
    if missing:
      files = shipped_files(rf"\S*\b{target.path}\.{missing[0]}\b")
      raise ConfigurationError(
        f"{target.path} needs {', '.join(missing)}, which nothing sets; "
        f"bind {target.path}.{missing[0]}"
        + (f", or include one of {', '.join(files)}." if files else ".")
        + (location.quoted() if location else "")
      )

  def _defaults(self) -> list[Bound]:
    """Returns the parameters that gin has used so far and that nothing sets."""
    imports: Imports = {}
    defaults = {(str(bound.target), bound.name): bound for bound in self._used}
    for statement, _ in parse_text(gin.operative_config_str(), "gin"):
      if isinstance(statement, config_parser.ImportStatement):
        imports.update(import_module(statement, _DEFAULT))
      elif isinstance(statement, config_parser.BindingStatement) and statement.arg_name:
        target = resolve(statement.selector, imports, _DEFAULT)
        assert target is not None, statement
        name, value = statement.arg_name, statement.value
        # gin lists parameters under the scopes in which they were used. Bindings of outer scopes
        # hold there too; a parameter that no binding reaches has its default in every scope.
        scopes = statement.scope.split("/")
        outer = {"", *("/".join(scopes[:i]) for i in range(1, len(scopes) + 1))}
        if not any((scope, id(target.object), name) in self._bound for scope in outer):
          defaults[str(target), name] = Bound("", target, name, value, _DEFAULT)
    return list(defaults.values())

  def _text(self, bound: Iterable[Bound], comments: bool) -> str:
    """Returns the macros and the given bindings as one gin file."""
    names: dict[str, str] = {}

    def name_of(target: Target) -> str:
      return f"{_alias(target.module, names)}.{target.path}"

    def reference(ref: ResolvedReference) -> Verbatim | None:
      if ref.target.missing:
        return None
      return Verbatim(f"@{join(ref.scope, name_of(ref.target))}{'()' if ref.evaluate else ''}")

    def line(name: str, item: Bound) -> str:
      value = replace(item.value, ResolvedReference, reference)
      return binding_text(name, value, str(item.location) if comments else "")

    macros = [line(name, item) for name, item in sorted(self._macros.items())]
    blocks: dict[str, list[str]] = {}
    for item in bound:
      assert item.target is not None
      if item.target.missing:
        continue
      key = join(item.scope, name_of(item.target))
      blocks.setdefault(key, []).append(line(f"{key}.{item.name}", item))
    imports = [_import_line(module, alias) for module, alias in sorted(names.items())]
    parts = [["from __gin__ import dynamic_registration", *imports], macros, *blocks.values()]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _alias(module: str, names: dict[str, str]) -> str:
  """Returns the alias of a module in a text: its last part, with a number if that is taken."""
  if module not in names:
    name = last = module.rpartition(".")[2]
    number = 2
    while name in names.values() or name == "gin":  # gin keeps that name for itself.
      name, number = f"{last}{number}", number + 1
    names[module] = name
  return names[module]


def _import_line(module: str, alias: str) -> str:
  parent, _, last = module.rpartition(".")
  line = f"from {parent} import {last}" if parent else f"import {last}"
  return line if alias == last else f"{line} as {alias}"
