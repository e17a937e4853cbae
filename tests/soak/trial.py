"""One run in a folder of its own: it is started, harmed, and started again as a scheduler would."""

from __future__ import annotations

import contextlib
import functools
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.process.exit_codes import ExitCode
from tests.soak import comparison
from tests.soak.outcomes import Failed, Kind, Outcome
from tests.soak.references import References

STEPS = 60  # TRAIN_STEPS of run.gin
SAVE_PERIOD = 5  # of run.gin, too
# A scheduler starts the same command again after these, and after SIGKILL.
AGAIN = {code.value for code in ExitCode if code.start_again == "yes"} | {-signal.SIGKILL}
_LONGEST = 900  # seconds that a process may take on a busy machine
_STARTS = 8  # in a row that end before the run is finished


class Process:
  """A process of `launch.train`. What it prints is in a file."""

  def __init__(self, popen: subprocess.Popen, log: Path):
    self.popen, self.log = popen, log

  def text(self) -> str:
    return self.log.read_text(errors="replace")

  def ended(self) -> bool:
    return self.popen.poll() is not None

  def until(self, condition: Callable[[], Any], seconds: float = _LONGEST) -> bool:
    """Waits until the condition is true; returns False if the process ended before.

    Raises:
      Failed: neither happened in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
      if self.ended():
        return bool(condition())
      if time.monotonic() > deadline:
        self.kill()
        raise Failed(f"nothing happened for {seconds:.0f} seconds; see {self.log.name}")
      time.sleep(0.001)
    return True

  def says(self, words: str) -> Callable[[], bool]:
    """Returns a condition for `until`: the process has printed these words."""
    return lambda: words in self.text()

  def send(self, number: int) -> None:
    self.popen.send_signal(number)  # Does nothing if it has ended.

  def kill(self) -> int:
    """Sends SIGKILL and returns the exit code, which is another one if it had ended before."""
    self.send(signal.SIGKILL)
    return self.popen.wait()

  def wait(self, seconds: float = _LONGEST) -> int:
    """Returns the exit code.

    Raises:
      Failed: the process did not end in time.
    """
    try:
      return self.popen.wait(seconds)
    except subprocess.TimeoutExpired:
      self.kill()
      raise Failed(f"it did not end within {seconds:.0f} seconds; see {self.log.name}") from None


class Trial:
  """A run with one or more faults.

  Attributes:
    model_dir: of the run.
    random: decides on moments and bytes; the same seed decides the same.
    settings: arguments of every start; the reference is a run with the same ones.
    own_settings: arguments of every start that an undisturbed run does not have.
    environ: variables of every start.
    may_differ: entries of records that an undisturbed run has not.
    injected: the faults so far.
  """

  def __init__(self, folder: Path, references: References, seed: str):
    folder.mkdir(parents=True)
    self.folder, self.model_dir = folder, folder / "model"
    self.references = references
    self.random = random.Random(seed)
    self.settings: list[str] = []
    self.own_settings: list[str] = []
    self.environ: dict[str, str] = {}
    self.may_differ: tuple[str, ...] = ()
    self.injected = 0
    # Each with the last step of which there was a record when it started.
    self._starts: list[tuple[Process, int]] = []
    self._at_end = contextlib.ExitStack()

  @property
  def checkpoints(self) -> Path:
    return self.model_dir / "checkpoints"

  def steps(self) -> list[int]:
    """Returns the steps of the complete checkpoints."""
    return comparison.saved_steps(self.model_dir)

  def reached(self) -> int:
    """Returns the last step of which a record was written, 0 if there is none."""
    return comparison.last_step(self.model_dir / "metrics.jsonl")

  def reaches(self, step: int) -> Callable[[], bool]:
    """Returns a condition for `Process.until`."""
    return lambda: self.reached() >= step

  def start(self, *arguments: str, **options: Any) -> Process:
    """Starts launch.train for the run of this trial.

    Args:
      *arguments: of this start only.
      **options: of subprocess.Popen.
    """
    log = self.folder / f"start-{len(self._starts) + 1:02}.txt"
    own = [*self.settings, *self.own_settings, *arguments]
    reached = self.reached()
    with log.open("wb") as output:
      popen = self.references.start(
        [*self.references.arguments(self.model_dir), *own],
        self.environ,
        **{"stdout": output, "stderr": subprocess.STDOUT} | options,
      )
    self._starts.append((Process(popen, log), reached))
    return self._starts[-1][0]

  def finish(self, process: Process | None = None) -> None:
    """Starts the run until it is finished, as a scheduler does that looks at the exit code.

    Args:
      process: the run if it is started already.

    Raises:
      Failed: it ended with a code after which it must not be started again, or too often.
    """
    for _ in range(_STARTS):
      running, process = process or self.start(), None
      code = running.wait()
      if code == ExitCode.FINISHED:
        return
      if code not in AGAIN:
        raise Failed(f"exit code {code}: {last_words(running.text())}")
    raise Failed(f"not finished after {_STARTS} more starts: {last_words(running.text())}")

  def trains_until(self, process: Process, most: int = 2 * STEPS // 3) -> bool:
    """Waits until a random number of steps, at most `most`, is trained, and a checkpoint complete.

    Returns False if the process ended before.
    """
    step = min(STEPS, self.reached() + self.random.randint(1, most))
    reached = process.until(process.says("Compiled")) and process.until(self.reaches(step))
    return reached and process.until(lambda: self.steps())

  def survived_exactly(self, process: Process | None = None, note: str = "") -> Outcome:
    """Finishes the run, and compares its end with that of an undisturbed one.

    Args:
      process: the run if it is started already.
      note: of the outcome.

    Raises:
      Failed: they differ.
    """
    self.finish(process)
    self.check_end()
    return self.outcome("exact", note)

  def check_end(self, processes: int = 1) -> None:
    """Compares the end of the run with that of an undisturbed one in this many processes.

    Raises:
      Failed: they differ.
    """
    reference = self.references.model_dir(self.settings, processes)
    next_batches = functools.partial(self.references.next_batches, self.settings)
    differences = comparison.differences(reference, self.model_dir, next_batches, self.may_differ)
    if differences:
      raise Failed("; ".join(differences[:4]))

  def stopped_clearly(self, process: Process, code: int, *words: str) -> Outcome:
    """Waits for the end of a process, and checks its exit code and its message.

    Raises:
      Failed: the code is another one, words are missing, or there is a traceback.
    """
    got = process.wait()
    text = process.text()
    missing = [word for word in words if not re.search(word, text)]
    if got != code or missing or "Traceback" in text or "error: " not in text:
      raise Failed(
        f"exit code {got} for {code}"
        + (f", says nothing of {missing}" if missing else "")
        + (", a traceback" if "Traceback" in text else "")
        + f": {last_words(text)}"
      )
    return self.outcome("stopped", last_words(text))

  def outcome(self, kind: Kind, note: str = "") -> Outcome:
    return Outcome(kind, self.injected, self._trained_again(), note)

  def at_end(self, function: Callable[[], Any]) -> None:
    """Calls this at the end of the trial, when no process is left; the last one given first."""
    self._at_end.callback(function)

  def end(self) -> None:
    """Kills the processes that are left, and cleans up."""
    for process, _ in self._starts:
      process.kill()
    self._at_end.close()

  def _trained_again(self) -> int:
    """Returns how many steps were trained a second time, after all starts."""
    steps = reached = 0
    for process, reached_before in self._starts:
      reached = max(reached, reached_before)
      text = process.text()
      if "A model that knows only" in text:  # It began to train.
        resumed = re.search(r"Resuming from step ([\d,]+)\.", text)
        steps += max(0, reached - int(resumed[1].replace(",", "") if resumed else 0))
        reached = 0
    return steps


def last_words(text: str) -> str:
  """Returns what a process printed last: the error, or the last line."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  errors = [line for line in lines if line.startswith("error: ")]
  return (errors or lines or ["nothing was printed"])[-1][:300]
