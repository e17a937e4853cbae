"""What gin files bind, read without importing what they name: for commands that train nothing."""

import types
from collections.abc import Sequence
from typing import Any

from launch.gin_files import GinFiles, parse_binding
from launch.gin_text import Macro, Reference, find, replace
from launch.mistakes import ConfigurationError


class GinValues:
  """The values that files, and bindings of the command line after them, give to names."""

  def __init__(
    self,
    gin_files: Sequence[str],
    bindings: Sequence[str] = (),
    search_paths: Sequence[str] = (),
  ):
    """Reads the files.

    Raises:
      ConfigurationError: a file does not exist or is not gin.
    """
    # The modules stay unknown: importing those of the data would load TensorFlow.
    files = GinFiles(search_paths, import_module=lambda statement, place: {})
    for name in gin_files:
      files.read(name)
    given = [parse_binding(text, files.bindings, files.imports) for text in bindings]
    self._bindings = [*files.bindings, *given]
    self._macros = {b.selector: b.value for b in self._bindings if not b.argument}

  def macro(self, name: str, default: Any = None) -> Any:
    """The value of a macro; of what calls a function, the name of the function."""
    return self._resolved(self._macros[name]) if name in self._macros else default

  def parameters(self, name: str) -> dict[str, Any]:
    """{parameter: value} of a function or class, by the last part of its name.

    Raises:
      ConfigurationError: a macro is not set.
    """
    return {
      b.argument: self._resolved(b.value)
      for b in self._bindings
      if b.argument and b.selector.rpartition(".")[2] == name
    }

  def _resolved(self, value: Any) -> Any:
    for macro in find(value, Macro):
      if macro.name not in self._macros:
        raise ConfigurationError(f"{macro.name} is not set. Set it: --gin.{macro.name}=...")
    value = replace(value, Reference, lambda r: types.SimpleNamespace(name=r.selector))
    return replace(value, Macro, lambda macro: self._resolved(self._macros[macro.name]))
