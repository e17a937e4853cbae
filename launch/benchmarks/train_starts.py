"""Real starts of launch.train, timed from outside by the lines that it prints."""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..configuration.errors import ConfigurationError
from ..process import environment

# The lines of t5x_style/reporting/terminal.py before and after the compilation, and at the record.
_MARKS = ("A model that knows only", "Compiled the training step", "step 1/1  ")


class Start(NamedTuple):
  """Seconds of a start's parts, one after the other."""

  before: float  # until the step is compiled: the process, imports, data, the state
  compile: float
  step: float  # from there to the first step's record

  @property
  def total(self) -> float:
    return sum(self)


def twice(arguments: Sequence[str]) -> tuple[Start, Start]:
  """Starts a run, and again from nothing but what the first start left in the compilation cache.

  The data's own cache and the files of Python's packages are warm in both: a dry run goes first.

  Args:
    arguments: of launch.train.

  Raises:
    ConfigurationError: launch.train ends before its first step, with what it said.
  """
  with tempfile.TemporaryDirectory() as folder:
    cache = Path(folder, "xla")
    _dry_run(arguments, Path(folder))
    first, second = (_start(arguments, Path(folder, name), cache) for name in ("first", "second"))
  return first, second


def _dry_run(arguments: Sequence[str], model_dir: Path) -> None:
  done = subprocess.run(
    [*_command(arguments, model_dir), "--dry_run"],
    env=os.environ | {"JAX_COMPILATION_CACHE_DIR": ""},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  if done.returncode:
    raise ConfigurationError(f"launch.train does not start: {done.stderr.strip()}")


def _start(arguments: Sequence[str], model_dir: Path, cache: Path) -> Start:
  """A process of its own, ended as soon as its first step is recorded."""
  environ = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
  times, marks = [time.perf_counter()], list(_MARKS)
  with (
    tempfile.TemporaryFile("w+") as errors,
    subprocess.Popen(
      _command(arguments, model_dir), env=environ, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process,
  ):
    assert process.stdout is not None
    for line in process.stdout:
      if line.startswith(marks[0]):
        times.append(time.perf_counter())
        marks.pop(0)
        if not marks:
          break
    process.kill()
    process.wait()
    if marks:
      errors.seek(0)
      raise ConfigurationError(f"launch.train ended before its first step: {errors.read().strip()}")
  return Start(*(after - before for before, after in itertools.pairwise(times)))


def _command(arguments: Sequence[str], model_dir: Path) -> list[str]:
  bindings = ("--gin.TRAIN_STEPS=1", "--gin.LOG_PERIOD=1", f"--gin.MODEL_DIR={str(model_dir)!r}")
  return [sys.executable, "-m", f"{environment.PACKAGE}.train", *arguments, *bindings]
