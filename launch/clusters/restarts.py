"""Starts a run again by its exit code, for as long as it makes progress."""

import collections
import dataclasses
import time
from collections.abc import Callable

from ..process.exit_codes import ExitCode

# From the same step: a run that was preempted after a checkpoint resumes from a later one, and may
# be preempted any number of times.
MOST_ATTEMPTS = 20
_FEW_ATTEMPTS = 3
_PAUSE_SECONDS = 10.0  # doubled with each attempt without progress
_LONGEST_PAUSE_SECONDS = 300.0

_STARTED_AGAIN = (ExitCode.PREEMPTED, ExitCode.PROCESS_LOST)
_BY_A_PERSON = (ExitCode.INTERRUPTED, ExitCode.OUTPUT_CLOSED)


@dataclasses.dataclass(frozen=True)
class Ended:
  """How an attempt ended.

  Attributes:
    code: the exit code of the run; None if the machines are lost.
    saved_step: the newest step that this or an earlier attempt resumed from; None if none did.
  """

  code: int | None
  saved_step: int | None = None


def until_done(
  attempt: Callable[[], Ended],
  say: Callable[[str], None],
  *,
  sleep: Callable[[float], None] = time.sleep,
) -> int:
  """Runs attempts until one ends with a code after which another would not help.

  Args:
    attempt: starts the run or finds it running, waits for its end, and returns how it ended.
    say: shows why the next attempt begins, or none.

  Returns:
    the last exit code; PROCESS_LOST if the machines were lost too often.
  """
  newest, fruitless = -1, collections.Counter[int]()
  while True:
    ended = attempt()
    if ended.saved_step is not None and ended.saved_step > newest:
      newest = ended.saved_step
      fruitless.clear()
    why = "The machines are lost" if ended.code is None else f"Exit code {ended.code}"
    most = attempts_after(ended.code)
    fruitless[most] += 1  # Errors of the run and preemptions are counted apart.
    if fruitless[most] >= most:
      if most > 1:
        where = "no step was saved" if newest < 0 else f"no step after {newest:,} was saved"
        say(f"{why}, {most} times without progress ({where}): the run is not started again.")
      return ExitCode.PROCESS_LOST if ended.code is None else ended.code
    say(f"{why}: the run is started again.")
    sleep(min(_PAUSE_SECONDS * 2 ** (fruitless.total() - 1), _LONGEST_PAUSE_SECONDS))


def attempts_after(code: int | None) -> int:
  """Returns how many attempts may end like this without progress; None for lost machines."""
  by_signal = code is not None and code > 128 and code not in _BY_A_PERSON
  if code is None or code in _STARTED_AGAIN or by_signal:
    return MOST_ATTEMPTS
  return _FEW_ATTEMPTS if code == ExitCode.UNEXPECTED else 1
