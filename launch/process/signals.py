"""Signals that must be answered at once, also while native code runs for minutes.

Python calls its handlers only between two of its own instructions, and compiling a program is one.
So a thread reads which signals have come, before Python's handlers know about them.
"""

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from . import watchdog
from .environment import is_plain
from .exit_codes import ExitCode

_STOPPING = (signal.SIGTERM, signal.SIGHUP)
_RELEASING_SECONDS = 5.0
# A launcher may deliver one SIGTERM twice, to the process and to its group: within this time it
# counts as one.
_REPEATED_SECONDS = 2.0


class Listener:
  """Ends the process at SIGTERM and SIGHUP, except while it trains: training saves first.

  At the start there is nothing to save, and at the end everything is saved. While it trains, a
  second signal of a kind, some seconds later, ends the process, and a save that takes longer than
  the grace period is reported. It is not cut off: what it saves is lost only if the process is
  killed.
  """

  def __init__(self, release: Callable[[], None]):
    """Listens from `__enter__` on.

    Args:
      release: gives back what other processes wait for, before this one ends.
    """
    self._release = release
    self._react: Callable[[int], None] = self._at_start
    self._deadline: float | None = None
    self._say_late: Callable[[], None] = lambda: None
    self._previous: dict[int, Any] = {}
    self._pipe: tuple[int, int] | None = None

  def __enter__(self) -> "Listener":
    if is_plain() or threading.current_thread() is not threading.main_thread():
      return self
    self._pipe = os.pipe()
    os.set_blocking(self._pipe[1], False)
    signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
    for number in _STOPPING:
      if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP.
        self._previous[number] = signal.signal(number, lambda *_: None)  # The thread acts.
    os.register_at_fork(after_in_child=self._restore)
    threading.Thread(target=self._listen, name="signals", daemon=True).start()
    return self

  def __exit__(self, *_: Any) -> None:
    if self._pipe:
      self._restore()

  @contextlib.contextmanager
  def training(self, grace_seconds: float, newest: Callable[[], int | None]) -> Iterator[None]:
    """The context in which the training saves at the first signal.

    Args:
      grace_seconds: what the machine allows between SIGTERM and SIGKILL.
      newest: returns the step of the newest complete checkpoint, None if there is none.
    """
    received: dict[int, float] = {}

    def react(number: int) -> None:
      name = signal.Signals(number).name
      now = time.monotonic()
      if number in _STOPPING and now - received.get(number, -_REPEATED_SECONDS) < _REPEATED_SECONDS:
        return
      if number in received:
        self._end(128 + number, f"A second {name} ended the run at once, {_saved(newest)}.")
      received[number] = now
      if self._deadline is None:
        # A little earlier, so that it can be read before the process is killed.
        self._deadline = now + grace_seconds - min(3.0, grace_seconds / 10)
        self._say_late = lambda: _print(
          f"warning: the grace period of {grace_seconds:g} seconds after {name} is over, and the "
          f"run is still saving, {_saved(newest)}. If it is killed now, it resumes from there."
        )

    self._react = react
    try:
      yield
    finally:
      self._react, self._deadline = lambda number: None, None

  def at_end(self, code: int) -> None:
    """From now on a signal ends the process with this code: all is saved."""
    if not watchdog.connected():  # Others may wait for this process.
      self._react = lambda number: self._end(
        code, f"{signal.Signals(number).name} ended the summary of the run; all is saved."
      )

  def _at_start(self, number: int) -> None:
    if number in _STOPPING:
      name = signal.Signals(number).name
      self._end(ExitCode.PREEMPTED, f"Stopped by {name} before the first step: nothing is lost.")

  def _end(self, code: int, message: str) -> None:
    _print(message)
    releasing = threading.Thread(target=self._release, daemon=True)
    releasing.start()
    releasing.join(_RELEASING_SECONDS)
    watchdog.leave(code)

  def _listen(self) -> None:
    assert self._pipe is not None
    reading = self._pipe[0]
    while True:
      left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
      if select.select([reading], [], [], left)[0]:
        for number in os.read(reading, 64):
          self._react(number)
      elif self._deadline is not None:
        self._deadline = None
        self._say_late()
        self._say_late = lambda: None

  def _restore(self) -> None:
    signal.set_wakeup_fd(-1)
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    self._previous.clear()


def _saved(newest: Callable[[], int | None]) -> str:
  step = newest()
  return "without a checkpoint" if step is None else f"with step {step:,} as its newest checkpoint"


def _print(message: str) -> None:
  with contextlib.suppress(OSError):
    os.write(2, f"\n{message}\n".encode())
