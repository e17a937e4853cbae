"""The flags that commands share, named as in T5X, and a --help page of one screen."""

import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from ..process import environment
from ..process.errors import ConfigurationError, did_you_mean
from . import reader
from .data_parameters import TFDS_DATA_DIR

# The flags of define_data and of define_processes.
DATA = ("gin_file", "gin_bindings", "gin_search_paths", "tfds_data_dir")
PROCESSES = ("coordinator_address", "process_count", "process_index")
_GIN = "--gin.NAME=VALUE"
_COLUMNS, _NARROW = (
  100,
  76,
)  # of a help page at most, and of one whose flags have lines of their own


def parse(
  argv: Sequence[str],
  *,
  about: str,
  examples: str,
  define: Callable[[flags.FlagValues], None] | None = None,
  runs_model: bool = True,
) -> Any:
  """Parses the command line; --help prints the help page and exits.

  The flags exist only in the returned values, not in absl's global ones: a module that is both run
  and imported would define those twice.

  Args:
    argv: the program's name, then its arguments.
    about: one line for the help page; examples: commands to copy, one per line.
    define: adds the command's own flags to the values that it is given.
    runs_model: whether the command trains or evaluates. It then has --dry_run and the flags of
      several processes.

  Returns:
    the flags' values as attributes: gin_file, gin_bindings (with every --gin.NAME=VALUE, in the
    given order), gin_search_paths, tfds_data_dir, dry_run, coordinator_address, process_count,
    process_index, traceback, and those of `define`.

  Raises:
    ConfigurationError: a flag is unknown or cannot have its value.
  """

  def define_all(values: flags.FlagValues) -> None:
    define_data(values)
    if runs_model:
      _define_running(values)
    if define:
      define(values)

  values, rest = parse_own(argv, about=about, examples=examples, define=define_all)
  if rest:
    gin = f" Did you mean --gin_file={rest[0]}?" if rest[0].endswith(".gin") else ""
    raise ConfigurationError(f"The argument {rest[0]!r} belongs to no flag.{gin}")
  if values.tfds_data_dir == "":
    raise ConfigurationError("--tfds_data_dir is empty; write --tfds_data_dir=/path/to/datasets.")
  return values


def parse_own(
  argv: Sequence[str],
  *,
  about: str,
  examples: str,
  define: Callable[[flags.FlagValues], None],
) -> tuple[Any, list[str]]:
  """Parses the command line of a command with its own flags only: those of `define`, --traceback.

  Returns:
    the flags' values, and the words that belong to no flag.
  """
  values = flags.FlagValues()
  define(values)
  flags.DEFINE_bool("traceback", False, "Show where an error comes from.", flag_values=values)
  if any(argument in ("--help", "-h", "-help", "--helpfull") for argument in argv[1:]):
    print(help_page(values, about, examples))
    sys.exit(0)
  return values, _parse(values, [argv[0], *map(_as_binding, argv[1:])])


def read_configuration(
  values: Any, overrides: Mapping[str, Any] | None = None
) -> reader.Configuration:
  """Reads the configuration that the flags request; `overrides` are those of reader.read."""
  overrides = dict(overrides or {})
  if values.tfds_data_dir:
    overrides[TFDS_DATA_DIR] = values.tfds_data_dir
    os.environ["TFDS_DATA_DIR"] = values.tfds_data_dir  # Read by SeqIO tasks of the user.
  with environment.quiet_imports():
    return reader.read(values.gin_file, values.gin_bindings, values.gin_search_paths, overrides)


def quoted(argument: str) -> str:
  """Returns an argument as one types it in a shell; --gin.X="'text'" keeps its readable quotes."""
  plain = shlex.quote(argument)
  if plain == argument or "'" not in argument or re.search(r'["$`\\!]', argument):
    return plain
  name, equals, value = argument.partition("=")
  return f'{shlex.quote(name)}{equals}"{value}"' if equals else f'"{argument}"'


def define_data(values: flags.FlagValues) -> None:
  """Defines the flags that `read_configuration` reads."""
  define_gin(values)
  flags.DEFINE_string(
    "tfds_data_dir",
    None,
    "The folder of TFDS datasets; overrides the gin files.",
    flag_values=values,
  )


def define_gin(values: flags.FlagValues) -> None:
  """Defines the flags that say which gin files are read."""
  flags.DEFINE_multi_string(
    "gin_file",
    [],
    "A path, or the name of a shipped gin file. May be repeated; later files override.",
    flag_values=values,
  )
  flags.DEFINE_multi_string(
    "gin_bindings",
    [],
    f'A binding, as "NAME = VALUE"; {_GIN} is short for it. It overrides all files.',
    flag_values=values,
  )
  flags.DEFINE_list(
    "gin_search_paths",
    [],
    "Folders, separated by commas, in which gin files and includes are looked for.",
    flag_values=values,
  )


def define_stage(values: flags.FlagValues) -> None:
  """Defines the flag for stage_settings.chosen."""
  flags.DEFINE_string(
    "stage",
    None,
    "The stage of the run to show, by its name in STAGES.",
    flag_values=values,
  )


def _define_running(values: flags.FlagValues) -> None:
  flags.DEFINE_bool(
    "dry_run", False, "Build and print everything; train nothing.", flag_values=values
  )
  define_processes(values)


def define_processes(values: flags.FlagValues) -> None:
  """Defines the flags of a job of several processes."""
  flags.DEFINE_string(
    "coordinator_address",
    None,
    "HOST:PORT of process 0; needed by several processes that no cluster manager starts.",
    flag_values=values,
  )
  flags.DEFINE_integer(
    "process_count", None, "Number of processes.", lower_bound=1, flag_values=values
  )
  flags.DEFINE_integer(
    "process_index", None, "Number of this process, from 0.", lower_bound=0, flag_values=values
  )


def _as_binding(argument: str) -> str:
  """Turns --gin.NAME=VALUE into --gin_bindings=NAME = VALUE."""
  found = re.fullmatch(r"--?gin\.([^=\s]+)(=?)(.*)", argument, re.DOTALL)
  if not found:
    return argument
  name, equals, value = found.groups()
  if not (equals and value):
    raise ConfigurationError(f"{argument} sets nothing; write --gin.{name}=VALUE in one word.")
  return f"--gin_bindings={name} = {value}"


def _parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
  """Returns the words that belong to no flag."""
  try:
    return values(argv)[1:]
  except flags.UnrecognizedFlagError as error:
    known = [f"--{name}" for name in _own(values)]
    raise ConfigurationError(
      f"There is no flag --{error.flagname}.{did_you_mean(f'--{error.flagname}', known)} "
      "--help lists them."
    ) from error
  except flags.IllegalFlagValueError as error:
    raise ConfigurationError(_illegal_value(values, error)) from error
  except flags.Error as error:
    raise ConfigurationError(f"{str(error)[:1].upper()}{str(error)[1:].rstrip('.')}.") from error


def _illegal_value(values: flags.FlagValues, error: flags.IllegalFlagValueError) -> str:
  """Returns what a flag should be; absl's message quotes Python: "invalid literal for int()"."""
  # The message is "flag --NAME=VALUE: " and that of the error before; a VALUE may have ": " in it.
  message, reason = str(error), f": {error.__context__}"
  found = re.fullmatch(rf"flag --(\w+)=(.*){re.escape(reason)}", message, re.DOTALL)
  if not found or found.group(1) not in values:
    return f"{message[:1].upper()}{message[1:].rstrip('.')}."
  name, value = found.groups()
  parser = values[name].parser
  if isinstance(parser, flags.BooleanParser):
    expected = "true or false"
  elif isinstance(parser, flags.EnumParser):
    near = did_you_mean(value, parser.enum_values)
    return f"--{name}={value} should be one of {', '.join(parser.enum_values)}.{near}"
  else:
    text = parser.syntactic_help  # "a positive integer", "number >= 0.1"
    expected = text if text.startswith("a") else f"a{'n' * text.startswith('i')} {text}"
  return f"--{name}={value} should be {expected}."


def _own(values: flags.FlagValues) -> list[str]:
  """Returns the flags that were defined here or by a command, in the order of definition."""
  return [name for name in values if name not in ("flagfile", "undefok")]


def help_page(values: flags.FlagValues, about: str, examples: str) -> str:
  """Returns the text of --help: what the command is, examples to copy, and the flags."""
  examples = environment.as_started(textwrap.dedent(examples).strip())
  columns = min(shutil.get_terminal_size((_COLUMNS, 24)).columns, _COLUMNS) - 2
  about = "\n".join(_wrapped(line, columns) for line in about.splitlines())
  lines = [about, "", "Examples:", textwrap.indent(examples, "  ")]
  lines += ["", "Flags:"]
  # absl adds how to repeat a flag, after a semicolon.
  entries = {f"--{name}": (values[name].help or "").partition(";\n")[0] for name in _own(values)}
  if "gin_bindings" in values:
    entries[_GIN] = (
      "Sets a macro, or a parameter: --gin.TrainConfig.seed=1. Text in quotes: \"'text'\"."
    )
  width = max(map(len, entries)) + 4
  for name, text in entries.items():
    start = f"  {name:<{width}}"
    if columns < _NARROW:  # The text is below the flag.
      lines.append(start.rstrip())
      start = " " * 6
    lines += textwrap.wrap(text, columns, initial_indent=start, subsequent_indent=" " * len(start))
  return "\n".join(lines)


def _wrapped(line: str, columns: int) -> str:
  """Returns a line in several; of "  NAME   words ..." they begin below the words."""
  start = re.match(r" +(\S+ {2,})?", line)
  return textwrap.fill(line, columns, subsequent_indent=" " * (start.end() if start else 0))
