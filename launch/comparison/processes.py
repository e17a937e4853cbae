"""Child processes: one after the other or side by side, each with its part of the machine."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..process import environment
from ..process.errors import ConfigurationError
from ..process.exit_codes import ExitCode

_POLL_SECONDS = 0.2
_STARTS = 3  # of a process that ends with a code that says "start again"
_AGAIN = (ExitCode.PREEMPTED, ExitCode.PROCESS_LOST)
# What a child does before it becomes its program. A function that Popen calls after a fork would do
# as well, but not in a process with JAX's threads. 1 is PR_SET_PDEATHSIG of prctl(2), which exec
# keeps; 76 is ExitCode.PROCESS_LOST.
_START = """
import ctypes, os, signal, sys
parent, cores, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(parent):  # It died before the line above.
  sys.exit(76)
if cores:
  os.sched_setaffinity(0, map(int, cores.split(",")))
os.execv(command[0], command)
"""
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
  """A signal stopped the comparison; its processes have ended and saved what they had."""

  def __init__(self, number: int):
    super().__init__(signal.Signals(number).name)
    self.number = number


class Place(NamedTuple):
  """A part of the machine: variables of the environment, and cores (none: all)."""

  environ: Mapping[str, str] = {}
  cores: tuple[int, ...] = ()


WHOLE = Place()


def places(count: int, environ: Mapping[str, str] = os.environ) -> list[Place]:
  """Returns `count` equal parts of the machine: of its GPUs, or of its cores.

  Raises:
    ConfigurationError: there are fewer GPUs or cores, or they are TPUs, which are not divided.
  """
  if count == 1:
    return [WHOLE]
  kind = environment.accelerator(environ)
  if kind == "tpu":
    raise ConfigurationError("A TPU is not divided among runs: set AT_ONCE = 1.")
  units = _gpus(environ) if kind == "gpu" else [str(core) for core in sorted(_cores())]
  share = len(units) // count
  if not share:
    what = "GPUs" if kind == "gpu" else "processor cores"
    raise ConfigurationError(
      f"AT_ONCE = {count}, but there are {len(units)} {what}; each run needs one: set AT_ONCE = "
      f"{max(len(units), 1)} or less."
    )
  parts = [units[i * share : (i + 1) * share] for i in range(count)]
  if kind == "gpu":
    return [Place({"CUDA_VISIBLE_DEVICES": ",".join(part)}) for part in parts]
  return [Place(cores=tuple(map(int, part))) for part in parts]


def _gpus(environ: Mapping[str, str]) -> list[str]:
  visible = environ.get("CUDA_VISIBLE_DEVICES")
  if visible is not None:
    return [x.strip() for x in visible.split(",") if x.strip()]
  files = Path("/dev").glob("nvidia[0-9]*")
  return sorted((x.name.removeprefix("nvidia") for x in files), key=int)


def _cores() -> set[int]:
  if hasattr(os, "sched_getaffinity"):
    return os.sched_getaffinity(0)
  return set(range(os.cpu_count() or 1))


class Child:
  """A command of this package in a process of its own, with its output in a file."""

  def __init__(self, module: str, arguments: Sequence[str], log: Path, place: Place = WHOLE):
    """Starts `python -m launch.MODULE ARGUMENTS`; adds to the end of `log`."""
    words = [sys.executable, "-m", f"{environment.PACKAGE}.{module}", *arguments]
    log.parent.mkdir(parents=True, exist_ok=True)
    self.log, self.started = log, time.monotonic()
    with log.open("ab") as file:
      file.write(f"$ {shlex.join(['python', *words[1:]])}\n".encode())
      file.flush()
      self._begin = file.tell()
      self._process = subprocess.Popen(
        _with_parent(words, place.cores),
        stdin=subprocess.DEVNULL,
        stdout=file,
        stderr=file,
        env={**os.environ, **place.environ},
        start_new_session=True,  # Ctrl-C reaches only the parent, which tells its children.
      )

  def poll(self) -> int | None:
    """Returns the exit code; None while it runs."""
    return self._process.poll()

  def stop(self, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
      self._process.send_signal(number)

  def wait(self) -> int:
    return self._process.wait()

  @property
  def seconds(self) -> float:
    return time.monotonic() - self.started

  def error(self) -> str:
    """Returns the message with which the process ended, or the last line that it printed."""
    text = self.log.read_bytes()[self._begin :].decode(errors="replace").strip()
    found = re.findall(r"^error: .*", text, re.MULTILINE | re.DOTALL)
    last = text.splitlines()[-1] if text else f"it ended with code {self._process.returncode}"
    return found[-1].removeprefix("error: ").strip() if found else last


def _with_parent(words: list[str], cores: Sequence[int]) -> list[str]:
  """Returns a command that, on Linux, is killed when this process dies, and keeps to some cores.

  After a SIGKILL of the parent nothing else would end its children, and they would hold the folders
  that the next start needs. A killed run resumes from its newest checkpoint.
  """
  if sys.platform != "linux":
    return words
  start = [sys.executable, "-I", "-S", "-c", _START, str(os.getpid())]
  return [*start, ",".join(map(str, cores)), *words]


def run(
  module: str, arguments: Sequence[str], log: Path, signals: "Signals", place: Place = WHOLE
) -> None:
  """Runs a command to its end.

  Raises:
    ConfigurationError: with its message, if it fails.
    Stopped: by a signal.
  """
  signals.check([])
  child = Child(module, arguments, log, place)
  if wait(child, signals) != ExitCode.FINISHED:
    raise ConfigurationError(child.error())


def wait(child: Child, signals: "Signals") -> int:
  """Returns the exit code of a child when it has ended.

  Raises:
    Stopped: by a signal.
  """
  while (code := child.poll()) is None:
    signals.check([child])
    time.sleep(_POLL_SECONDS)
  return code


class Signals:
  """The context in which SIGINT, SIGTERM and SIGHUP end the children first, which save."""

  def __init__(self):
    self._received: int | None = None
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> "Signals":
    if threading.current_thread() is threading.main_thread():
      for number in _STOPPING:
        self._previous[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *_: Any) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _note(self, number: int, _: Any) -> None:
    self._received = number

  def check(self, children: Sequence[Child]) -> None:
    """Raises Stopped, after all children have ended, if a signal has come."""
    if self._received is None:
      return
    for child in children:
      child.stop(signal.SIGTERM)
    for child in children:
      child.wait()
    raise Stopped(self._received)


class Stage(NamedTuple):
  """A command that is a part of a job."""

  name: str
  module: str
  arguments: list[str]


class Job(Protocol):
  """What is done for a run, stage by stage."""

  log: Path

  def stages(self) -> Iterator[Stage]:
    """Yields what is still to be done; it is asked for the next one after the one before."""
    ...

  def finished(self, stage: Stage, seconds: float) -> None: ...

  def failed(self, stage: Stage, message: str) -> None: ...


class Active(NamedTuple):
  """A job and the stage of it that runs."""

  job: Any
  stage: Stage
  child: Child
  left: Iterator[Stage]
  starts: int


def run_all(
  jobs: Sequence[Job],
  available: Sequence[Place],
  show: Callable[[list[Active]], None],
  signals: Signals,
) -> None:
  """Does all jobs, as many at once as there are places. A job that fails does not stop the others.

  Args:
    show: called often, with what runs.

  Raises:
    Stopped: by a signal.
  """
  waiting, active = deque(jobs), dict[int, Active]()
  while waiting or active:
    for index, place in enumerate(available):
      while waiting and index not in active:
        job = waiting.popleft()
        if begun := _next(job, job.stages(), place):
          active[index] = begun
    signals.check([x.child for x in active.values()])
    for index, current in list(active.items()):
      if current.child.poll() is not None:
        del active[index]
        if following := _after(current, available[index]):
          active[index] = following
    show(list(active.values()))
    if active:
      time.sleep(_POLL_SECONDS)


def _next(job: Job, left: Iterator[Stage], place: Place) -> Active | None:
  stage = next(left, None)
  if stage is None:
    return None
  return Active(job, stage, Child(stage.module, stage.arguments, job.log, place), left, 1)


def _after(ended: Active, place: Place) -> Active | None:
  """Returns what follows a child that has ended; None if its job is done, or has failed."""
  job, stage, child, left, starts = ended
  code = child.poll()
  if code in _AGAIN and starts < _STARTS:
    again = Child(stage.module, stage.arguments, job.log, place)
    return Active(job, stage, again, left, starts + 1)
  if code != ExitCode.FINISHED:
    job.failed(stage, child.error())
    return None
  job.finished(stage, child.seconds)
  return _next(job, left, place)
