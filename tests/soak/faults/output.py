"""What reads the output of a run ends, or cannot store it: the run trains to its end."""

import os
import subprocess
import threading
from collections.abc import Callable

from tests.soak.outcomes import Fault, Outcome
from tests.soak.trial import STEPS, Process, Trial


def _reader_ends(stream: str) -> Callable[[Trial], Outcome]:
  """Returns a fault: a pipe is read for a while, as `| head` does, and then closed."""

  def inject(trial: Trial) -> Outcome:
    process = trial.start(**{stream: subprocess.PIPE})
    pipe = getattr(process.popen, stream)
    threading.Thread(target=_read, args=(pipe.fileno(), process), daemon=True).start()
    process.until(trial.reaches(trial.random.randint(1, STEPS // 2)))
    os.dup2(os.open(os.devnull, os.O_RDONLY), pipe.fileno())  # Closes the end that reads.
    trial.injected += 1
    return trial.survived_exactly(process)

  return inject


def _read(descriptor: int, process: Process) -> None:
  with process.log.open("ab", buffering=0) as log:
    while data := os.read(descriptor, 1 << 16):
      log.write(data)


def _from_the_start(**options) -> Callable[[Trial], Outcome]:
  """Returns a fault: the output goes nowhere."""

  def inject(trial: Trial) -> Outcome:
    trial.injected += 1
    opened = {
      name: os.open(path, os.O_WRONLY) for name, path in options.items() if isinstance(path, str)
    }
    try:
      return trial.survived_exactly(trial.start(**options | opened))
    finally:
      for descriptor in opened.values():
        os.close(descriptor)

  return inject


def _closing(descriptor: str) -> list[str]:
  """Returns a program that closes a file descriptor and executes the command after it."""
  return ["sh", "-c", f'exec "$@" {descriptor}>&-', "sh"]


def _fault(name: str, about: str, inject: Callable[[Trial], Outcome]) -> Fault:
  return Fault(name, about, ("exact",), inject)


FAULTS = (
  _fault(
    "stdout-closed", "the reader of standard output ends, as head does", _reader_ends("stdout")
  ),
  _fault("stderr-closed", "the reader of standard error ends", _reader_ends("stderr")),
  _fault(
    "no-stdout",
    "started without a standard output",
    _from_the_start(through=_closing("1")),
  ),
  _fault("no-stderr", "started without a standard error", _from_the_start(through=_closing("2"))),
  _fault(
    "log-full",
    "both go to a full device",
    _from_the_start(stdout="/dev/full", stderr="/dev/full"),
  ),
)
