"""Translates a gin file of T5X: python -m launch.gin_from_t5x my_t5x_run.gin --to=my_run.gin"""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from .configuration import flags, reader
from .conversion import t5x_gin
from .process import command, environment, errors, whole_files
from .process.errors import ConfigurationError

EXAMPLES = """\
python -m launch.gin_from_t5x t5x/examples/t5/t5_1_1/examples/base_c4_pretrain.gin
python -m launch.gin_from_t5x my_t5x_run.gin --to=my_run.gin
python -m launch.gin_from_t5x my_t5x_run.gin --gin_search_paths=/path/to/t5x_clone"""


def main(argv: Sequence[str]) -> None:
  values, files = flags.parse_own(
    argv,
    about="Writes a gin file of T5X in the names of this package, and says what of it has no "
    "counterpart.",
    examples=EXAMPLES,
    define=_define,
  )
  with errors.as_configuration_errors():
    if len(files) != 1:
      raise ConfigurationError("Give one gin file of T5X; --help shows examples.")
    if values.to and Path(values.to).exists():
      raise ConfigurationError(f"--to={values.to} exists; choose another name or remove it.")
    folders = [Path(folder).expanduser() for folder in values.gin_search_paths]
    found = t5x_gin.translate(Path(files[0]).expanduser(), folders)
    if values.to:
      whole_files.write(Path(values.to), found.text)
    else:
      print(found.text)
  _report(found, values.to)


def _report(found: t5x_gin.Translation, path: str | None) -> None:
  """Says on standard error what was left out, and what has to be set before the file can run."""
  lines = ["Without a counterpart:"] if found.lost else []
  for reason in dict.fromkeys(one.reason for one in found.lost):
    names = ", ".join(f"{one.name} ({one.place})" for one in found.lost if one.reason == reason)
    lines += textwrap.wrap(f"{reason}:", 100, initial_indent="  ", subsequent_indent="  ")
    lines += textwrap.wrap(
      names, 100, initial_indent="    ", subsequent_indent="    ", break_long_words=False
    )
  if path:
    lines += ["", f"{path} is written."]
    missing = _missing(path)
    if missing:
      lines += ["Before it can run:", textwrap.indent(missing, "  ")]
    else:
      lines.append(
        environment.as_started(f"Check it: python -m launch.train --gin_file={path} --dry_run")
      )
  print("\n".join(lines), file=sys.stderr)


def _missing(path: str) -> str:
  """Returns what is wrong with the file as a configuration; "" if nothing is."""
  try:
    with environment.quiet_imports():
      reader.read([path])
  except ConfigurationError as error:
    return str(error)
  return ""


def _define(values: Any) -> None:
  absl_flags.DEFINE_string(
    "to", None, "The gin file to write; by default it is printed.", flag_values=values
  )
  absl_flags.DEFINE_list(
    "gin_search_paths",
    [],
    "Folders, separated by commas, in which included files of T5X are looked for.",
    flag_values=values,
  )


if __name__ == "__main__":
  command.run(main)
