"""What a process says when another one of its job is lost, however it learns of that."""

import os
import re
import sys

# What collectives (Gloo on CPUs, NCCL on GPUs) and JAX's coordination service say when another
# process is gone. Words that any error may hold, such as "peer" or "barrier", are not enough.
_LOST = re.compile(
  r"gloo.*(connection|timed out|timeout|closed|reset)"
  r"|nccl.*(remote|network|connection|timed out|timeout|aborted)"
  r"|coordination service|heartbeat timeout|socket closed|connection (reset|closed) by peer"
  r"|barrier (timed out|failed because|has failed)|before the barrier was called",
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
  # JAX's own errors are RuntimeErrors: a server of files that hangs up is no process of the job.
  if not (_finished and isinstance(error, RuntimeError) and _LOST.search(text)):
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
