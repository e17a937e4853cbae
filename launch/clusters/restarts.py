"""Starts a run again by its exit code, until it is done or would only fail again."""

import dataclasses
import time
from collections.abc import Callable

from ..process.exit_codes import ExitCode

MOST_ATTEMPTS = 20
_FEW_ATTEMPTS = 3
# A run that lasted longer has saved, and its end does not count. Processes wait 1,800 s for one
# that never joins: such a run has not trained.
_NO_PROGRESS_SECONDS = 2700.0
_PAUSE_SECONDS = 10.0

_STARTED_AGAIN = (ExitCode.PREEMPTED, ExitCode.PROCESS_LOST)
_BY_A_PERSON = (ExitCode.INTERRUPTED, ExitCode.OUTPUT_CLOSED)


@dataclasses.dataclass(frozen=True)
class Ended:
  """How an attempt ended.

  Attributes:
    code: the exit code of the run; None if the machines are lost.
    seconds: how long the run was under way, without the wait for machines.
  """

  code: int | None
  seconds: float = 0.0


def until_done(
  attempt: Callable[[], Ended],
  say: Callable[[str], None],
  *,
  sleep: Callable[[float], None] = time.sleep,
) -> int:
  """Runs attempts until one ends with a code after which another would not help.

  Args:
    attempt: starts the run or finds it running, waits for its end, and returns how it ended.
    say: shows why the next attempt begins.

  Returns:
    the last exit code; PROCESS_LOST if the machines were lost too often.
  """
  fruitless = 0
  while True:
    ended = attempt()
    code = ended.code
    fruitless = 1 if ended.seconds >= _NO_PROGRESS_SECONDS else fruitless + 1
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
