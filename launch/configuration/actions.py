"""Commands that do one of several things: python -m launch.COMMAND ACTION ...

An action is a module of the folder that belongs to the command. The first line of its docstring
describes it, and its FLAGS are the names of the command's flags that it takes.
"""

import ast
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from absl import flags

from ..process import environment
from ..process.errors import ConfigurationError, did_you_mean

_ALWAYS = ("traceback",)  # flags that every action takes
_LAUNCH = Path(__file__).parents[1]


def descriptions(folder: str, names: Sequence[str]) -> dict[str, str]:
  """Returns {name: first line of its docstring} of modules of launch/`folder`; imports none."""
  files = {name: _LAUNCH / folder / f"{name}.py" for name in names}
  trees = {name: ast.parse(file.read_text()) for name, file in files.items()}
  return {name: (ast.get_docstring(x) or "").partition("\n")[0] for name, x in trees.items()}


def listed(about: Mapping[str, str]) -> str:
  """Returns the lines of a help page that describe the actions."""
  width = max(map(len, about)) + 2
  return "\n".join(f"  {name:<{width}}{line}" for name, line in about.items())


def chosen(words: Sequence[str], known: Sequence[str]) -> tuple[str, list[str]]:
  """Returns the action that a command line names, and the words after it.

  Raises:
    ConfigurationError: there is no such action; the message names those there are.
  """
  if words and words[0] in known:
    return words[0], list(words[1:])
  hint = did_you_mean(words[0], known) if words else ""
  what = f"There is no action {words[0]!r}.{hint}" if words else "No action is given."
  raise ConfigurationError(f"{what} Name one of: {', '.join(known)}.")


def prepare_buckets(words: Sequence[str]) -> None:
  """Imports TensorFlow, with which buckets are read, if a word is one; its notices end here."""
  with environment.quiet_imports():
    if any(word.startswith("gs://") for word in words):
      import tensorflow  # noqa: F401


def imported(folder: str, action: str, values: flags.FlagValues) -> ModuleType:
  """Imports the module of an action.

  Raises:
    ConfigurationError: a flag is given that the action does not take.
  """
  with environment.quiet_imports():
    module = importlib.import_module(f"{environment.PACKAGE}.{folder}.{action}")
  given = [name for name in values if values[name].present]
  wrong = [name for name in given if name not in (*module.FLAGS, *_ALWAYS)]
  if wrong:
    raise ConfigurationError(f"{action} takes no --{wrong[0]}; --help shows which flags it takes.")
  return module
