"""Two runs are started in one MODEL_DIR: one of them ends and says why, the other one trains on."""

import time

from launch.process.exit_codes import ExitCode
from tests.soak.outcomes import Failed, Fault, Outcome
from tests.soak.trial import Trial


def _two_writers(trial: Trial) -> Outcome:
  first = trial.start()
  time.sleep(trial.random.choice((0, trial.random.uniform(0, 15))))
  second = trial.start()
  trial.injected += 1
  codes = sorted((first.wait(), second.wait()))
  if codes == [ExitCode.FINISHED, ExitCode.MISTAKE]:
    refused = first if first.popen.returncode else second
    trial.stopped_clearly(refused, ExitCode.MISTAKE, "MODEL_DIR")
  elif codes != [ExitCode.FINISHED] * 2:  # The first one was done before the second one came.
    raise Failed(f"exit codes {codes}")
  return trial.survived_exactly(first if first.popen.returncode == 0 else second)


FAULTS = (Fault("two-writers", "two runs in one MODEL_DIR", ("exact",), _two_writers),)
