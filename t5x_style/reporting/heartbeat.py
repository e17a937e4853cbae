"""MODEL_DIR/heartbeat.json: what a run does at the moment, for watchers outside of it.

    {"state": "training", "step": 1200, "progress_time": 1795938350.2, "written_time": 1795938352.7,
     "process": 0, "pid": 4711, "host": "host0"}

state: "starting" (data is opened, a checkpoint restored), "compiling", "training", "evaluating",
  "sampling" (the model writes texts), "saving"; at the end "finished", "stopped" (by a signal,
  saved) or "failed".
step: the newest one that was dispatched; null before the first one.
progress_time: seconds since 1970 when the run last made progress: a step, a held-out batch, or the
  beginning of what the state says. It grows old while the run hangs.
written_time: seconds since 1970. The first process of a job replaces the file every few seconds; it
  grows old if that process is dead or stopped, or cannot write.
"""

import contextlib
import json
import os
import socket
import threading
import time
from typing import Any

from etils import epath

from t5x_style.reporting.record_file import is_local

PERIOD_SECONDS = 5.0
_LAST_WRITE_SECONDS = 5.0  # how long the end of a run waits for the last write


class Heartbeat:
  """Counts the progress of a run; as a context, also writes it to a file in the background.

  A file that cannot be written hinders nothing: it grows old.
  """

  def __init__(self, path: epath.PathLike | None = None, process: int = 0):
    """Begins in the state "starting".

    Args:
      path: of heartbeat.json; None writes none.
      process: the index of this process in its job.
    """
    self._path = epath.Path(path) if path else None
    self._who = {"process": process, "pid": os.getpid(), "host": socket.gethostname()}
    self._changed, self._ended = threading.Event(), False
    self._changed.set()
    self._thread = threading.Thread(target=self._keep_writing, name="heartbeat", daemon=True)
    self.state, self.time, self.count = "starting", time.time(), 0
    self.step: int | None = None

  def beat(self, state: str, step: int | None = None) -> None:
    """Notes progress; costs less than a microsecond, because the file is written elsewhere.

    Args:
      state: one of those above.
      step: None if it is the same as before.
    """
    changed = state != self.state
    self.state, self.time = state, time.time()
    self.step = self.step if step is None else step
    self.count += 1
    if changed:
      self._changed.set()

  def __enter__(self) -> "Heartbeat":
    if self._path:
      self._thread.start()
    return self

  def __exit__(self, kind: Any, *_: Any) -> None:
    if kind:
      self.beat("failed")
    self._ended = True
    self._changed.set()
    if self._path:
      self._thread.join(_LAST_WRITE_SECONDS)

  def _keep_writing(self) -> None:
    ended = False
    while not ended:
      self._changed.wait(PERIOD_SECONDS)
      self._changed.clear()
      ended = self._ended  # Before the last state is written.
      with contextlib.suppress(Exception):  # Errors of buckets are no OSErrors.
        self._write()

  def _write(self) -> None:
    assert self._path is not None
    content = {
      "state": self.state,
      "step": self.step,
      "progress_time": self.time,
      "written_time": time.time(),
      **self._who,
    }
    if not is_local(self._path):
      self._path.write_text(json.dumps(content))  # In a bucket a file is replaced as a whole.
      return
    part = self._path.with_name(f".{self._path.name}.part")
    part.write_text(json.dumps(content) + "\n")
    part.replace(self._path)
