"""Looks at the checkpoints of a run: python -m launch.checkpoint list MODEL_DIR

Each of ACTIONS is a module of launch/checkpoints/ that has
  run(values, folders): does it, prints what it found, and returns the exit code;
  FLAGS: the names of the flags that it takes;
  FOLDERS: how many folders it takes.
The first line of its docstring describes it. Nothing here changes a checkpoint.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from types import ModuleType

from absl import flags as absl_flags

from t5x_style.errors import UserError, first_line

from .configuration import actions, flags
from .process import command, environment, errors
from .process.errors import ConfigurationError

EXAMPLES = """\
python -m launch.checkpoint list model_dirs/my_run
python -m launch.checkpoint verify gs://bucket/my_run --json
python -m launch.checkpoint diff model_dirs/my_run --step=1000 --step=2000
python -m launch.checkpoint diff model_dirs/one model_dirs/other --all
python -m launch.checkpoint average model_dirs/my_run --last=5 --to=averaged"""

ACTIONS = ("list", "verify", "diff", "average")  # modules of launch/checkpoints/

_ABOUT = """\
Looks at the checkpoints of a run. A folder is a MODEL_DIR, its checkpoints folder, or one step in
it; local or gs://.

Actions:
{}

Exit codes: 0; 1 if verify finds a damaged step, or diff a difference; 2 or more for errors."""


def main(argv: Sequence[str]) -> int | None:
  about = actions.descriptions("checkpoints", ACTIONS)
  values, words = flags.parse_own(
    argv, about=_ABOUT.format(actions.listed(about)), examples=EXAMPLES, define=_define
  )
  action, folders = actions.chosen(words, ACTIONS)
  # Only files are read: nothing may take an accelerator, on which a run may be training.
  os.environ["JAX_PLATFORMS"] = "cpu"
  environment.prepare()
  actions.prepare_buckets(folders)
  module = actions.imported("checkpoints", action, values)
  _check_folders(action, module, folders)
  with errors.as_configuration_errors(), _buckets_are_named(folders):
    return module.run(values, folders)


def _define(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_multi_string(
    "step",
    [],
    "verify, diff, average: only this step. May be repeated; --step=10,20 is short for two.",
    flag_values=values,
  )
  absl_flags.DEFINE_bool(
    "all", False, "diff: the optimizer's state too, and every array.", flag_values=values
  )
  absl_flags.DEFINE_integer(
    "last", None, "average: how many of the newest steps.", flag_values=values
  )
  absl_flags.DEFINE_string("to", None, "average: the new folder.", flag_values=values)
  absl_flags.DEFINE_bool(
    "json", False, "list, verify, diff: one JSON object, for programs.", flag_values=values
  )


def _check_folders(action: str, module: ModuleType, folders: Sequence[str]) -> None:
  """Raises ConfigurationError unless there are as many folders as the action takes."""
  if len(folders) not in module.FOLDERS:
    wanted = " or ".join(("", "one folder", "two folders")[count] for count in module.FOLDERS)
    raise ConfigurationError(
      f"{action} takes {wanted}, a MODEL_DIR or a step in it; {len(folders)} were given."
    )


@contextlib.contextmanager
def _buckets_are_named(folders: Sequence[str]) -> Iterator[None]:
  """Names the bucket in errors of the library that reads gs://, which name no file."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    buckets = [folder for folder in folders if "://" in folder]
    of_files = isinstance(error, OSError) or type(error).__module__.startswith("tensorflow")
    if buckets and of_files:
      raise UserError(
        f"{' or '.join(buckets)} cannot be read. Check the name, and that this machine may read "
        f"it (gcloud auth application-default login). {first_line(error)}"
      ) from error
    raise


if __name__ == "__main__":
  command.run(main)
