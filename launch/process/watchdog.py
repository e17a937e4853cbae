"""Explains the end of a process that lost another process of its job, and gives it an exit code."""

import atexit
import contextlib
import ctypes
import os
import re
import signal
import sys
from typing import Any, NoReturn

from t5x_style.errors import UserError

from .environment import is_plain
from .exit_codes import ExitCode

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
  "Start all processes again with the same commands: a run resumes from the newest checkpoint in "
  "MODEL_DIR."
)

# SLURM sends them to all processes of a job, and the watchdog has to outlive its parent.
_FOR_THE_PARENT = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

_finished: list[int] = []  # the end of the pipe on which this process reports an orderly end


# The functions that C calls at SIGABRT; Python must not free them.
_handlers: list[Any] = []
_code_at_abort: int = ExitCode.PROCESS_LOST


class ProcessLostError(RuntimeError):
  """Another process of this job does not answer."""


def watch() -> None:
  """Forks a watchdog that prints an explanation if native code ends this process.

  When JAX loses the other processes, it ends this one from C++ by abort(), and no other Python code
  runs any more. The watchdog only waits for that; the exit code is then PROCESS_LOST. Call this
  before anything starts a thread.
  """
  if is_plain():
    _finished.append(os.open(os.devnull, os.O_WRONLY))  # Connected, but no watchdog reads.
    return
  reading, writing = os.pipe()
  before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)  # It stays so in the watchdog.
  if os.fork():
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(reading)
    _finished.append(writing)
    _exit_at_abort()
    return
  try:
    os.close(writing)
    os.setsid()  # Ctrl-C is meant for the parent.
    if os.read(reading, 1) != b".":
      os.write(2, f"\nerror: this process, or another one of its job, died. {_ADVICE}\n".encode())
  finally:
    os._exit(0)


def _exit_at_abort() -> None:
  """Has abort() end this process with `_code_at_abort`.

  A handler of Python's module `signal` cannot do that: Python calls it only after abort() has
  returned, and abort() never returns.
  """
  kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
  _handlers.append(kind(lambda _: os._exit(_code_at_abort)))
  set_handler = ctypes.CDLL(None).signal
  set_handler.argtypes, set_handler.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
  set_handler(signal.SIGABRT, ctypes.cast(_handlers[-1], ctypes.c_void_p))
  # Runs after JAX has disconnected: no handler may call Python while the interpreter ends.
  atexit.register(set_handler, signal.SIGABRT, None)


def connected() -> bool:
  """Returns whether this process is one of several."""
  return bool(_finished)


def finished(code: int = ExitCode.FINISHED) -> None:
  """Reports to the watchdog that this process ends by itself, with this code, and has said why.

  The code stays even if JAX aborts the process while it disconnects from the others.
  """
  global _code_at_abort
  _code_at_abort = code
  while _finished:
    with contextlib.suppress(BrokenPipeError):  # Somebody killed the watchdog.
      os.write(_finished.pop(), b".")


def explain(error: BaseException) -> str | None:
  """Returns an explanation of an error that means a lost process; None for other errors."""
  text = str(error)
  if isinstance(error, ProcessLostError):
    return f"{text} {_ADVICE}"
  # JAX raises these. A file server that hangs up (an OSError) is not a process of the job.
  of_jax = isinstance(error, RuntimeError | ValueError) and not isinstance(error, UserError)
  if not (_finished and of_jax and _LOST.search(text)):
    return None
  first = text.strip().splitlines()[0][:300]
  return (
    f"the connection to another process of this job is lost: that one died ({first}). {_ADVICE}"
  )


def leave(code: int) -> NoReturn:
  """Ends this process at once: an orderly end would wait for the lost process."""
  finished(code)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
