"""Ends a process that hangs, after it has written where each of its threads is."""

import contextlib
import faulthandler
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etils import epath

from t5x_style.reporting.heartbeat import Heartbeat

# A process whose interpreter is blocked (native code holds the GIL) cannot run this file's thread.
# So much later a thread of faulthandler, which needs no GIL, writes the stacks to the standard
# error and ends the process with exit code 1.
_BLOCKED_SECONDS = 3600.0
# For each of the two places that stacks are written to: a pipe or a file system may hang, too.
_WRITING_SECONDS = 20.0
_NO_STANDARD_ERROR = (OSError, ValueError, AssertionError)  # It is closed or None.


class HangWatch:
  """As a context, watches that a heartbeat continues.

  Time counts only while this process runs: one that was stopped (Ctrl-Z, a debugger), or whose
  machine was suspended, has not hung.
  """

  def __init__(
    self,
    heartbeat: Heartbeat,
    minutes: float | None,
    path: epath.PathLike,
    on_hang: Callable[[str], None],
  ):
    """Prepares the watch.

    Args:
      minutes: so long without progress is a hang; None watches nothing.
      path: the file that the stacks of all threads are written to. If it cannot be written, they
        stay in a file of this machine's temporary folder.
      on_hang: called with a message, from another thread; it has to end the process.
    """
    self._heartbeat, self._path, self._on_hang = heartbeat, epath.Path(path), on_hang
    self._limit = None if minutes is None else 60 * minutes
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._watch, name="hang watch", daemon=True)

  def __enter__(self) -> "HangWatch":
    if self._limit is not None:
      self._watch_the_interpreter()
      self._thread.start()
    return self

  def __exit__(self, *_: Any) -> None:
    self._ended.set()
    if self._limit is not None:
      self._thread.join()
      faulthandler.cancel_dump_traceback_later()

  def _watch(self) -> None:
    assert self._limit is not None
    tick = min(5.0, self._limit / 10)
    silent, count, before = 0.0, self._heartbeat.count, time.monotonic()
    while not self._ended.wait(tick):
      self._watch_the_interpreter()
      now = time.monotonic()
      # This thread wakes up late if the process was stopped.
      silent += min(now - before, 2 * tick)
      before = now
      if count != self._heartbeat.count:
        silent, count = 0.0, self._heartbeat.count
      if silent > self._limit:
        self._report()
        return

  def _watch_the_interpreter(self) -> None:
    """Puts off the end by faulthandler: while this is called, Python runs."""
    assert self._limit is not None
    with contextlib.suppress(*_NO_STANDARD_ERROR):
      seconds = self._limit + _BLOCKED_SECONDS
      faulthandler.dump_traceback_later(seconds, exit=True, file=_standard_error())

  def _report(self) -> None:
    assert self._limit is not None
    at = "" if self._heartbeat.step is None else f" at step {self._heartbeat.step:,}"
    limit = f"{self._limit / 60:g} minutes (HANG_MINUTES)"
    what = f"No progress for {limit} while {self._heartbeat.state}{at}"
    places: list[str] = []
    for write in (self._write_file, self._write_standard_error):
      writing = threading.Thread(target=write, args=(what, places), daemon=True)
      writing.start()
      writing.join(_WRITING_SECONDS)
    where = f" The stacks of all threads are in {places[-1]}." if places else ""
    self._on_hang(f"{what}.{where} Start the same command again to resume.")

  def _write_file(self, what: str, places: list[str]) -> None:
    """Writes the stacks to a file of this machine, then to the requested one; adds the paths."""
    number, name = tempfile.mkstemp(prefix="stacks-", suffix=".txt")
    with os.fdopen(number, "w") as file:
      file.write(f"{time.strftime('%F %T %z')}: {what}\n")
      file.flush()
      faulthandler.dump_traceback(file, all_threads=True)
    places.append(name)
    with contextlib.suppress(Exception):  # What fails or blocks here leaves the first file.
      self._path.write_text(Path(name).read_text())
      places.append(str(self._path))

  def _write_standard_error(self, what: str, places: list[str]) -> None:
    """Copies the stacks; faulthandler would hold the GIL while a full pipe blocks it."""
    with contextlib.suppress(*_NO_STANDARD_ERROR):
      text = Path(places[0]).read_bytes() if places else what.encode()
      os.write(_standard_error(), text)
      if len(places) > 1:
        os.unlink(places[0])


def _standard_error() -> int:
  """Returns its file descriptor, also where sys.stderr is something else."""
  assert sys.__stderr__ is not None
  return sys.__stderr__.fileno()
