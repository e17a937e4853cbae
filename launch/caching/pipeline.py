"""Does one step of a cache as an Apache Beam pipeline, in a process of its own that make.py starts.

It ends with all its workers when its standard input is closed: when the command ends or is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from . import steps


def main(folder: str, step: str, workers: int, given: Sequence[str]) -> None:
  """Does what is left of a step.

  Args:
    folder: of the cache.
    step: steps.TOKENIZE or MERGE.
    workers: processes of Beam's direct runner.
    given: flags for Beam, which may choose another runner.
  """
  threading.Thread(target=_end_with_the_command, daemon=True).start()
  numbers = steps.left(Path(folder), step)
  runner, flags = _runner(min(workers, len(numbers)), given)
  options = PipelineOptions(flags, save_main_session=False)
  with beam.Pipeline(runner, options) as pipeline:
    _ = (
      pipeline
      | "numbers" >> beam.Create(numbers, reshuffle=False)
      | "spread" >> beam.Reshuffle()
      | step >> beam.Map(steps.do, folder, step)
    )


def _runner(workers: int, given: Sequence[str]) -> tuple[FnApiRunner | None, list[str]]:
  """Returns the runner, None for the one of the flags, and the flags.

  By default it is the direct runner that is written in Python. Under its name, DirectRunner, Beam
  first tries to download Prism, a program in Go.
  """
  if any(flag.startswith("--runner") for flag in given):
    return None, list(given)
  mode = "multi_processing" if workers > 1 else "in_memory"
  flags = [f"--direct_num_workers={workers}", f"--direct_running_mode={mode}"]
  return FnApiRunner(), [*flags, *given]


def _end_with_the_command() -> None:
  """Kills this process and its workers once the command's end of the pipe is closed."""
  os.read(0, 1)  # Python's own reader would be in the way when the interpreter ends.
  os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
  main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
