"""What gin files bind, read without importing what they name: for commands that train nothing."""

import types
from collections.abc import Callable, Sequence
from typing import Any

from . import gin_types
from .errors import ConfigurationError
from .gin_files import GinFiles, parse_binding
from .gin_text import Macro, Reference, replace


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
    """The value of a macro; of what calls a function, the name of the function.

    Raises:
      ConfigurationError: a macro in it is not set, or needs its own value.
    """
    return self._resolved(Macro(name)) if name in self._macros else default

  def parameters(self, name: str, kind: Callable[..., Any] | None = None) -> dict[str, Any]:
    """{parameter: value} of a function or class, by the last part of its name.

    Args:
      kind: the function or class itself: values have to be what its annotations say.

    Raises:
      ConfigurationError: a macro is not set, or a value is of the wrong kind.
    """
    annotations = gin_types.annotations(kind) if kind else {}
    values = {}
    for b in self._bindings:
      if b.argument and b.selector.rpartition(".")[2] == name:
        value = values[b.argument] = self._resolved(b.value)
        if isinstance(value, types.SimpleNamespace):  # What it gives is not known here.
          continue
        for problem in gin_types.problems(annotations.get(b.argument, Any), value):
          raise ConfigurationError(
            f"{name}.{b.argument} = {value!r} should {problem.wanted}.{b.place.quoted()}"
          )
    return values

  def _resolved(self, value: Any, inside: tuple[str, ...] = ()) -> Any:
    def meaning(macro: Macro) -> Any:
      if macro.name not in self._macros:
        raise ConfigurationError(f"{macro.name} is not set. Set it: --gin.{macro.name}=...")
      if macro.name in inside:
        circle = " -> ".join(f"%{name}" for name in (*inside, macro.name))
        raise ConfigurationError(f"%{macro.name} needs its own value: {circle}.")
      return self._resolved(self._macros[macro.name], (*inside, macro.name))

    value = replace(value, Reference, lambda r: types.SimpleNamespace(name=r.selector))
    return replace(value, Macro, meaning)
