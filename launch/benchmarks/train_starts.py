"""Starts launch.train and times it from outside, by the lines that it prints."""

import io
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from t5x_style.reporting.terminal import Terminal

from ..process import environment
from ..process.errors import ConfigurationError


class Start(NamedTuple):
  """Seconds of the parts of a start, one after the other.

  Attributes:
    before: the process, imports, data and the state, until the step is compiled.
    compile: compiling the step.
    step: from there to the record of the first step.
  """

  before: float
  compile: float
  step: float

  @property
  def total(self) -> float:
    return sum(self)


def twice(arguments: Sequence[str]) -> tuple[Start, Start]:
  """Starts a run twice; the second start finds only the compilation cache of the first.

  The data's cache and the files of Python's packages are warm in both, because a dry run comes
  first.

  Args:
    arguments: of launch.train.

  Raises:
    ConfigurationError: launch.train ended before its first step; the message has its output.
  """
  with tempfile.TemporaryDirectory() as folder:
    cache = Path(folder, "xla")
    _dry_run(arguments, Path(folder))
    first, second = (
      _start(_one_step(arguments, Path(folder, name)), cache) for name in ("first", "second")
    )
  return first, second


def resume(arguments: Sequence[str], model_dir: Path, cache: Path, step: int) -> Start:
  """Times a process that resumes a run from a step; it is killed after the record of the next one.

  Args:
    arguments: of launch.train, with a LOG_PERIOD of 1 and more steps than `step`.
    cache: the folder of the compilation cache.

  Raises:
    ConfigurationError: as for `twice`.
  """
  command = _command([*arguments, f"--gin.MODEL_DIR={str(model_dir)!r}"])
  return _start(command, cache, step)


def _dry_run(arguments: Sequence[str], model_dir: Path) -> None:
  done = subprocess.run(
    [*_one_step(arguments, model_dir), "--dry_run"],
    env=os.environ | {"JAX_COMPILATION_CACHE_DIR": ""},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  if done.returncode:
    raise ConfigurationError(f"launch.train does not start: {done.stderr.strip()}")


def _start(command: Sequence[str], cache: Path, resumed_from: int = 0) -> Start:
  """Times a process of launch.train, which is killed as soon as its first step is recorded."""
  environ = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONUNBUFFERED": "1"}
  times, beginnings = [time.perf_counter()], _beginnings(resumed_from + 1)
  with (
    tempfile.TemporaryFile("w+") as errors,
    subprocess.Popen(
      command, env=environ, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process,
  ):
    assert process.stdout is not None
    for line in process.stdout:
      if " ".join(line.split()).startswith(beginnings[0]):
        times.append(time.perf_counter())
        beginnings.pop(0)
        if not beginnings:
          break
    process.kill()
    process.wait()
    if beginnings:
      errors.seek(0)
      raise ConfigurationError(f"launch.train ended before its first step: {errors.read().strip()}")
  return Start(*(after - before for before, after in itertools.pairwise(times)))


def _beginnings(step: int) -> list[str]:
  """Returns how the lines begin that a run prints before and after compiling, and at its record."""
  output = io.StringIO()
  terminal = Terminal(console=Console(file=output))
  terminal.started(0, baseline=0.0)
  terminal.compiled()
  with terminal.progress(step - 1, step):
    terminal.record(step, "train", {"loss": 0.0})
  # The text before the first number, unless that is the number of the step.
  found = (re.match(r"step +[\d,]+/|\D*", line) for line in output.getvalue().splitlines())
  return [" ".join(match[0].split()) for match in found if match]


def _one_step(arguments: Sequence[str], model_dir: Path) -> list[str]:
  bindings = ("--gin.TRAIN_STEPS=1", "--gin.LOG_PERIOD=1", f"--gin.MODEL_DIR={str(model_dir)!r}")
  return _command([*arguments, *bindings])


def _command(arguments: Sequence[str]) -> list[str]:
  return [sys.executable, "-m", f"{environment.PACKAGE}.train", *arguments]
