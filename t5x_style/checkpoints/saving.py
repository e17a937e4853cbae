"""One save: the arrays are copied, and a background thread writes and commits the step.

Orbax writes the arrays. Its CheckpointManager is not used: where one process of a job fails, it
leaves the others waiting in barriers, for up to 20 minutes; and after a failure it forgets the
checkpoints that it was about to remove.
"""

import asyncio
import contextlib
import errno
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath

from t5x_style.checkpoints import orbax_noise, step_folders
from t5x_style.checkpoints.agreement import Agreement
from t5x_style.errors import first_line

# Stores arrays in chunks of at most 64 MiB, so that one layer of a stack can be read without the
# others: by default a whole stack of layers is one chunk.
_CHUNKED = ocp.SaveArgs(chunk_byte_size=1 << 26)
_ITEMS = ("state", "data", "run")
_REASONS = [
  os.strerror(number)
  for number in (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EMFILE),
  )
]


class Files(NamedTuple):
  """What a step holds beside the state.

  Attributes:
    streams: the places in the data: a small file per stream, by the processes that read it.
    run: JSON about the run, the same in all processes.
  """

  streams: dict[str, bytes]
  run: dict[str, Any]


class Save:
  """A step on its way to the disk. All processes of a job make it, and agree about its success."""

  def __init__(
    self,
    checkpoints: epath.Path,
    step: int,
    state: Any,
    files: Files,
    ended: Callable[[str | None], None],
  ):
    """Returns once the arrays are copied off the devices; the rest happens in the background.

    Args:
      state: a tree of arrays.
      ended: called once, before `wait` returns, perhaps in another thread: with None, or with the
        problem why the step is not saved. Then nothing of the step is left on the disk.
    """
    orbax_noise.silence()
    self._checkpoints, self._step, self._files, self._ended = checkpoints, step, files, ended
    self._first = jax.process_index() == 0
    self._agreement = Agreement()
    self._thread = threading.Thread(target=self._complete, name=f"save {step}", daemon=True)
    self._writes: list[Any] = []
    begun = _problem_of(self._begin) if self._first else None
    self._problem = self._agreement.of_first("begun", begun)
    if self._problem:
      self._end()
      return
    self._problem = _problem_of(lambda: self._copy(state))
    self._thread.start()

  def wait(self) -> None:
    """Returns when the step is committed or has failed."""
    if self._thread.ident is not None:
      self._thread.join()

  def _begin(self):
    folder = step_folders.begin(self._checkpoints, self._step)
    for item in _ITEMS:
      (folder / item).mkdir()

  def _copy(self, state):
    args = ocp.args.StandardSave(state, jax.tree.map(lambda _: _CHUNKED, state))
    handler = ocp.StandardCheckpointHandler()
    self._writes = _run(handler.async_save(self._folder("state"), args=args)) or []

  def _complete(self):
    """Writes this process' part; process 0 commits the step if all processes could write theirs."""
    try:
      problem = _problem_of(self._write) if self._problem is None else self._problem
      self._problem = self._agreement.of_all("written", problem)
      if self._first and self._problem is None:
        self._problem = _problem_of(self._commit)
      self._problem = self._agreement.of_first("committed", self._problem)
    except Exception as error:  # The other processes are gone.
      self._problem = reason(error)
    self._end()

  def _write(self):
    for name, place in self._files.streams.items():
      # Processes that read the same stream write the same bytes, and each a whole file.
      part = self._folder("data") / f"{name}.{jax.process_index()}.part"
      part.write_bytes(place)
      part.replace(self._folder("data") / name)
    if self._first:
      # The names of Orbax's JsonCheckpointHandler and of its metadata.
      (self._folder("run") / "metadata").write_text(json.dumps(self._files.run))
    for write in self._writes:
      write.result()

  def _commit(self):
    if not (self._folder("run") / "metadata").exists():  # TensorStore makes missing folders.
      raise OSError("the folder was removed while it was written")
    ocp.StandardCheckpointHandler().finalize(self._folder("state"))
    step_folders.commit(self._checkpoints, self._step)

  def _end(self):
    if self._problem and self._first:
      self._clean()
    self._ended(self._problem)

  def _clean(self):
    """Removes what is left on the disk, until no write that was under way adds to it."""
    for _ in range(10):
      with contextlib.suppress(Exception):
        if not step_folders.remove_leftovers(self._checkpoints, self._step):
          return
      time.sleep(0.2)

  def _folder(self, item):
    return step_folders.unfinished(self._checkpoints, self._step) / item


def reason(error: BaseException) -> str:
  """Returns why something could not be stored, in a few words where the system has some."""
  while isinstance(error, BaseExceptionGroup):
    error = error.exceptions[0]
  text = str(error)
  if known := [words for words in _REASONS if words in text]:
    return known[0]
  return first_line(error)


def _problem_of(work: Callable[[], Any]) -> str | None:
  """Does a piece of work; returns why it failed, or None."""
  try:
    work()
  except Exception as error:
    return reason(error)
  return None


def _run(coroutine: Any) -> Any:
  """Runs a coroutine, also where an event loop is running, as in a notebook."""
  with futures.ThreadPoolExecutor(1) as pool:
    return pool.submit(asyncio.run, coroutine).result()
