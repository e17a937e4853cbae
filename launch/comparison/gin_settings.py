"""Reads the Comparison that gin files bind, without importing what the runs need."""

from t5x_style.comparison.settings import Comparison

from ..configuration.gin_values import Function, GinValues
from ..process import errors
from .arguments import Given

_NAME = f"{Comparison.__module__}.{Comparison.__name__}"


def read(given: Given) -> Comparison:
  """Returns the settings of a comparison.

  Raises:
    ConfigurationError: a file or a value is wrong, or the files describe no comparison.
  """
  if not given.gin_files:
    raise errors.ConfigurationError(
      "No configuration is given. Start with --gin_file=compare.gin; ablations/ has others."
    )
  with errors.as_configuration_errors():
    found = GinValues(given.gin_files, given.bindings, given.search_paths).parameters(
      _NAME, Comparison
    )
    found = {name: value for name, value in found.items() if not isinstance(value, Function)}
    missing = [name for name in ("candidates", "amount", "compare_dir") if name not in found]
    if missing:
      raise errors.ConfigurationError(
        f"The gin files set no {', '.join(missing)} of a Comparison. Start with "
        "--gin_file=compare.gin, or include 'compare.gin' in your own file."
      )
    return Comparison(**{name: _frozen(value) for name, value in found.items()})


def _frozen(value):
  return tuple(value) if isinstance(value, list) else value
