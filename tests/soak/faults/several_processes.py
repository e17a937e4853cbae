"""Two processes of one job: one dies, stops, comes late or is configured differently."""

import signal
import time
from collections.abc import Callable, Sequence

from launch.process.exit_codes import ExitCode
from tests.soak.faults import hangs
from tests.soak.outcomes import Failed, Fault, Outcome
from tests.soak.references import free_port, job_arguments
from tests.soak.trial import AGAIN, STEPS, Process, Trial, last_words

_LOST = {ExitCode.PROCESS_LOST}
_OTHER_SETTINGS = (
  "PEAK_LEARNING_RATE=0.5",
  "BATCH_SIZE=8",
  "RANDOM_SEED=3",
  "SAVE_PERIOD=7",
  "TRAIN_STEPS=30",
)


def _start(trial: Trial, late: float = 0, other: Sequence[str] = ()) -> list[Process]:
  """Starts both processes; returns them in the order of their indices.

  Args:
    trial: whose run it is.
    late: seconds that process 0 comes after process 1.
    other: arguments of process 1 only.
  """
  port = free_port()
  second = trial.start(*job_arguments(port, 1, 2), *other)
  time.sleep(late)
  return [trial.start(*job_arguments(port, 0, 2)), second]


def _finish(trial: Trial, running: list[Process] | None = None) -> Outcome:
  """Starts both until the run is finished, and compares it with an undisturbed run of two."""
  for _ in range(4):
    running, processes = None, running or _start(trial)
    codes = [process.wait() for process in processes]
    if codes == [ExitCode.FINISHED] * 2:
      trial.check_end(processes=2)
      return trial.outcome("exact")
    if not set(codes) <= AGAIN:
      raise Failed(f"exit codes {codes}: {[last_words(x.text()) for x in processes]}")
  raise Failed(f"not finished after four more starts: {codes}")


def _one_is_killed(trial: Trial) -> Outcome:
  for _ in range(2):
    processes = _start(trial)
    step = min(STEPS, trial.reached() + trial.random.randint(1, STEPS // 2))
    processes[0].until(processes[0].says("Compiled"))
    processes[0].until(trial.reaches(step))
    killed = trial.random.randrange(2)
    if processes[killed].kill() == ExitCode.FINISHED:
      break
    trial.injected += 1
    _check_ends(processes[1 - killed], {*_LOST, ExitCode.FINISHED})
  return _finish(trial)


def _check_ends(process: Process, codes: set[ExitCode]) -> None:
  """Checks that a process that lost another one ends within two minutes, with one of the codes."""
  code = process.wait(120)
  if code not in codes:
    raise Failed(f"the other process ended with {code}: {last_words(process.text())}")


def _one_gets_sigterm(trial: Trial) -> Outcome:
  processes = _start(trial)
  processes[0].until(processes[0].says("Compiled"))
  processes[0].until(trial.reaches(trial.random.randint(1, STEPS - 10)))
  trial.random.choice(processes).send(signal.SIGTERM)
  trial.injected += 1
  codes = [process.wait() for process in processes]
  if codes not in ([ExitCode.PREEMPTED] * 2, [ExitCode.FINISHED] * 2):
    raise Failed(f"exit codes {codes} after SIGTERM to one of two")
  return _finish(trial)


def _one_pauses(trial: Trial) -> Outcome:
  """For less time than is taken for a hang: both continue."""
  processes = _start(trial)
  processes[0].until(processes[0].says("Compiled"))
  processes[0].until(trial.reaches(trial.random.randint(1, STEPS // 2)))
  stopped = trial.random.choice(processes)
  stopped.send(signal.SIGSTOP)
  trial.injected += 1
  time.sleep(trial.random.uniform(1, 10))
  stopped.send(signal.SIGCONT)
  return _finish(trial, processes)


def _one_stops(trial: Trial) -> Outcome:
  """For good: the other one ends and says so; what started the stopped one ends it."""
  trial.settings = [hangs.SHORT]
  processes = _start(trial)
  processes[0].until(processes[0].says("Compiled"))
  processes[0].until(trial.reaches(trial.random.randint(1, STEPS // 2)))
  stopped = trial.random.randrange(2)
  processes[stopped].send(signal.SIGSTOP)
  trial.injected += 1
  _check_ends(processes[1 - stopped], _LOST)
  processes[stopped].kill()
  return _finish(trial)


def _one_is_late(trial: Trial) -> Outcome:
  processes = _start(trial, late=trial.random.uniform(5, 40))
  trial.injected += 1
  return _finish(trial, processes)


def _different(trial: Trial) -> Outcome:
  setting = trial.random.choice(_OTHER_SETTINGS)
  processes = _start(trial, other=[f"--gin.{setting}"])
  trial.injected += 1
  outcomes = [
    trial.stopped_clearly(process, ExitCode.MISTAKE, setting.split("=")[0]) for process in processes
  ]
  if trial.steps() or trial.reached():
    raise Failed(f"it trained {trial.reached()} steps before")
  return outcomes[0]


def _fault(name: str, about: str, inject: Callable[[Trial], Outcome]) -> Fault:
  return Fault(name, about, ("exact",), inject)


FAULTS = (
  _fault("two-killed", "two processes: SIGKILL of one", _one_is_killed),
  _fault("two-sigterm", "two processes: SIGTERM to one", _one_gets_sigterm),
  _fault("two-paused", "two processes: SIGSTOP of one for up to 10 s", _one_pauses),
  _fault("two-stopped", "two processes: SIGSTOP of one", _one_stops),
  _fault("two-late", "two processes: process 0 is up to 40 s late", _one_is_late),
  Fault("two-different", "two processes with different settings", ("stopped",), _different),
)
