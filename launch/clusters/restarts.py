"""Starts a run again by its exit code, until it is done or would only fail again."""

import time
from collections.abc import Callable

from ..process.exit_codes import ExitCode

MOST_ATTEMPTS = 20
_FEW_ATTEMPTS = 3
_NO_PROGRESS_SECONDS = 600.0  # A run that lasted longer has saved; its end does not count.
_PAUSE_SECONDS = 10.0

_STARTED_AGAIN = (ExitCode.PREEMPTED, ExitCode.PROCESS_LOST)
_BY_A_PERSON = (ExitCode.INTERRUPTED, ExitCode.OUTPUT_CLOSED)


def until_done(
  attempt: Callable[[], int | None],
  say: Callable[[str], None],
  *,
  clock: Callable[[], float] = time.monotonic,
  sleep: Callable[[float], None] = time.sleep,
) -> int:
  """Runs attempts until one ends with a code after which another would not help.

  Args:
    attempt: starts the run or finds it running, waits for its end, and returns its exit code; None
      if the machines are lost.
    say: shows why the next attempt begins.

  Returns:
    the last exit code; PROCESS_LOST if the machines were lost too often.
  """
  fruitless = 0
  while True:
    began = clock()
    code = attempt()
    if clock() - began >= _NO_PROGRESS_SECONDS:
      fruitless = 0
    fruitless += 1
    if fruitless >= attempts_after(code):
      return ExitCode.PROCESS_LOST if code is None else code
    why = "The machines are lost" if code is None else f"Exit code {code}"
    say(f"{why}: the run is started again.")
    sleep(_PAUSE_SECONDS)


def attempts_after(code: int | None) -> int:
  """Returns how many attempts in a row may end like this; None for lost machines."""
  by_signal = code is not None and code > 128 and code not in _BY_A_PERSON
  if code is None or code in _STARTED_AGAIN or by_signal:
    return MOST_ATTEMPTS
  return _FEW_ATTEMPTS if code == ExitCode.UNEXPECTED else 1
