"""SIGTERM and Ctrl-C at random moments: the run saves and ends with the code for it."""

import signal
import time
from collections.abc import Callable, Sequence

from launch.process.exit_codes import ExitCode
from tests.soak.outcomes import Failed, Fault, Outcome
from tests.soak.trial import STEPS, Trial

_STOPS = 3  # of one run


def _send(numbers: Sequence[int], code: int, apart: float = 0.3) -> Callable[[Trial], Outcome]:
  """Returns a fault: one or several signals, at most `apart` seconds apart."""

  def inject(trial: Trial) -> Outcome:
    for _ in range(_STOPS):
      process = trial.start()
      step = min(STEPS, trial.reached() + trial.random.randint(1, STEPS // _STOPS))
      process.until(process.says("Compiled"))
      process.until(trial.reaches(step))
      sent_at = trial.reached()
      for number in numbers:
        process.send(number)
        time.sleep(trial.random.uniform(0, apart))
      got = process.wait()
      if got == ExitCode.FINISHED:  # It was done before the signal came.
        break
      trial.injected += 1
      if got != code:
        raise Failed(f"exit code {got} for {code} after step {sent_at}")
      if got == code and max(trial.steps(), default=0) != trial.reached():
        raise Failed(f"at step {trial.reached()}, and saved only {trial.steps()}")
    return trial.survived_exactly()

  return inject


def _while_starting(trial: Trial) -> Outcome:
  for _ in range(_STOPS):
    process = trial.start()
    time.sleep(trial.random.uniform(0, 12))
    process.send(signal.SIGTERM)
    code = process.wait()
    if code not in (ExitCode.FINISHED, ExitCode.PREEMPTED, -signal.SIGTERM, 128 + signal.SIGTERM):
      raise Failed(f"exit code {code}")
    trial.injected += 1
  return trial.survived_exactly()


FAULTS = (
  Fault("sigterm-start", "SIGTERM while it starts", ("exact",), _while_starting),
  Fault(
    "sigterm", "SIGTERM at a random step", ("exact",), _send((signal.SIGTERM,), ExitCode.PREEMPTED)
  ),
  Fault(
    "sigterm-twice",
    "SIGTERM and another one within .3 s",
    ("exact",),
    _send((signal.SIGTERM, signal.SIGTERM), ExitCode.PREEMPTED),
  ),
  Fault(
    "sigint", "Ctrl-C at a random step", ("exact",), _send((signal.SIGINT,), ExitCode.INTERRUPTED)
  ),
)
