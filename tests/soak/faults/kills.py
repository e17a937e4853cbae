"""SIGKILL at random moments of each phase of a run: it resumes as if nothing had happened."""

import time
from collections.abc import Callable

from tests.soak.outcomes import Fault, Outcome
from tests.soak.trial import STEPS, Process, Trial

_KILLS = 4  # of one run at most, before it is left alone
_START_SECONDS = 12.0  # about what a start takes until it trains

# Returns at the moment; False if the process ended before it.
Moment = Callable[[Trial, Process], bool]


def _while_starting(trial: Trial, process: Process) -> bool:
  time.sleep(trial.random.uniform(0, _START_SECONDS))
  return not process.ended()


def _while_compiling(trial: Trial, process: Process) -> bool:
  if not process.until(process.says("A model that knows only")):
    return False
  time.sleep(trial.random.uniform(0, 5))
  return not process.ended()


def _while_training(trial: Trial, process: Process) -> bool:
  return _some_steps_later(trial, process, 2 * STEPS // _KILLS)


def _inside_a_save(trial: Trial, process: Process) -> bool:
  """Somewhere between the first folder of a checkpoint and its last rename, or shortly after."""
  found = _some_steps_later(trial, process, STEPS // _KILLS) and _finds_unfinished(
    trial, process, trial.random.choice(("", "/state/*"))
  )
  time.sleep(trial.random.uniform(0, 0.3))
  return found


def _while_committing(trial: Trial, process: Process) -> bool:
  """After the arrays are written, and before or just after the step has its name."""
  found = _some_steps_later(trial, process, STEPS // _KILLS) and _finds_unfinished(
    trial, process, trial.random.choice(("/state/_METADATA", "/state/d", "/commit_success.txt"))
  )
  time.sleep(trial.random.choice((0, trial.random.uniform(0, 0.03))))
  return found


def _some_steps_later(trial: Trial, process: Process, most: int) -> bool:
  """Waits until a random number of steps is trained; earlier unfinished checkpoints are gone."""
  step = min(STEPS, trial.reached() + trial.random.randint(1, most))
  reached = process.until(process.says("Compiled")) and process.until(trial.reaches(step))
  time.sleep(trial.random.uniform(0, 0.05))
  return reached


def _finds_unfinished(trial: Trial, process: Process, item: str) -> bool:
  return process.until(lambda: _unfinished(trial, item))


def _unfinished(trial: Trial, item: str) -> bool:
  return any(trial.checkpoints.glob(f"*.orbax-checkpoint-tmp{item}"))


def _at_the_end(trial: Trial, process: Process) -> bool:
  reached = process.until(process.says("Compiled")) and process.until(trial.reaches(STEPS))
  time.sleep(trial.random.uniform(0, 1.5))
  return reached


def _kill(
  moment: Moment, *settings: str, kills: int = _KILLS, own_cache: bool = False
) -> Callable[[Trial], Outcome]:
  def inject(trial: Trial) -> Outcome:
    trial.settings = list(settings)
    if own_cache:
      trial.environ = {"JAX_COMPILATION_CACHE_DIR": str(trial.folder / "compiled")}
    unfinished = 0
    for _ in range(kills):
      process = trial.start()
      at_the_moment = moment(trial, process)
      code = process.kill()
      trial.injected += code < 0
      unfinished += bool(_unfinished(trial, ""))
      if not at_the_moment or code >= 0:
        break
    return trial.survived_exactly(note=f"{unfinished} unfinished checkpoints")

  return inject


FAULTS = (
  Fault("kill-start", "SIGKILL while it starts", ("exact",), _kill(_while_starting)),
  Fault(
    "kill-compile",
    "SIGKILL while it compiles, without a cache of compiled programs",
    ("exact",),
    _kill(_while_compiling, own_cache=True),
  ),
  Fault(
    "kill-training",
    "SIGKILL after a random step",
    ("exact",),
    _kill(_while_training, "--gin.SAVE_PERIOD=20"),  # Most steps are not inside a save.
  ),
  Fault("kill-save", "SIGKILL inside a save", ("exact",), _kill(_inside_a_save)),
  Fault("kill-commit", "SIGKILL while a save commits", ("exact",), _kill(_while_committing)),
  Fault("kill-end", "SIGKILL after the last step", ("exact",), _kill(_at_the_end, kills=2)),
)
