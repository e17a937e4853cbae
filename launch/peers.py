"""What a process says when another one of its job is lost, however it learns of that."""

import os
import re
import sys

# What collectives and JAX's coordination service say when a peer is gone.
_LOST = re.compile(
  r"gloo|nccl|coordination service|heartbeat|socket closed|connection (reset|closed)|peer|barrier",
  re.IGNORECASE,
)
_ADVICE = (
  "Start all processes again with the same commands: a run goes on from the newest checkpoint in "
  "MODEL_DIR."
)

_finished: list[int] = []  # the end of the pipe through which this process says that it is done


def watch() -> None:
  """Has the last line of the output be a clear one, even where C++ ends this process.

  JAX ends a process from inside of C++ when it loses the others: no Python runs then. A child of
  this process, which does nothing but wait for its end, speaks instead. To be called before
  anything starts a thread.
  """
  reading, writing = os.pipe()
  if os.fork():
    os.close(reading)
    _finished.append(writing)
    return
  try:
    os.close(writing)
    os.setsid()  # Ctrl-C is meant for the parent.
    if os.read(reading, 1) != b".":
      os.write(2, f"\nerror: this process, or another one of its job, died. {_ADVICE}\n".encode())
  finally:
    os._exit(0)


def connected() -> bool:
  """Whether this process is one of several."""
  return bool(_finished)


def finished() -> None:
  """This process ends by itself, and has said why."""
  while _finished:
    os.write(_finished.pop(), b".")


def explain(error: BaseException) -> str | None:
  """What to tell where an error says that another process is lost; None for other errors."""
  text = str(error)
  if not _finished or not _LOST.search(text):
    return None
  first = text.strip().splitlines()[0][:300]
  return (
    f"the connection to another process of this job is lost: that one died ({first}). {_ADVICE}"
  )


def leave(code: int) -> None:
  """Ends this process at once: an orderly end would wait for the process that is lost."""
  finished()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
