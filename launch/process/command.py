"""Runs a command: what it prints about an error, and the exit code of its process."""

import os
import select
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from t5x_style.errors import StorageError, UserError

from . import output, same_start, watchdog
from .environment import as_started
from .errors import ConfigurationError, plain_message
from .exit_codes import ExitCode

_PRINTING_SECONDS = 10.0

# A command: it gets the program's name and its arguments, and returns its exit code, None for 0.
Main = Callable[[Sequence[str]], int | None]


def run(main: Main, argv: Sequence[str] | None = None) -> NoReturn:
  """Runs a command and ends the process with a code of launch/process/exit_codes.py.

  With --traceback in `argv` an error is shown with its traceback.
  """
  output.open_missing()
  output.escape_what_has_no_bytes()
  argv = sys.argv if argv is None else argv
  try:
    code = _run_and_print(main, argv)
    watchdog.finished(code)
  except _OutputClosedError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest there.
    if watchdog.connected():
      watchdog.leave(ExitCode.OUTPUT_CLOSED)
    sys.exit(ExitCode.OUTPUT_CLOSED)
  # All processes of the job see these, or are told.
  except (ConfigurationError, FloatingPointError, StorageError) as error:
    if "--traceback" in argv:
      traceback.print_exc()
    print_error(plain_message(error))
    if isinstance(
      error, ConfigurationError | StorageError
    ):  # One disk may be full, and others wait.
      same_start.report_mistake(plain_message(error))
    watchdog.finished(_code_of(error))
    sys.exit(_code_of(error))
  except KeyboardInterrupt:
    print_error("interrupted")
    watchdog.finished(ExitCode.INTERRUPTED)
    sys.exit(ExitCode.INTERRUPTED)
  except Exception as error:
    known = plain_message(error) if isinstance(error, UserError) else watchdog.explain(error)
    if known is None and not watchdog.connected():
      raise
    if known is None or "--traceback" in argv:
      traceback.print_exc()
    print_error(known or "This process ends, and with it the others of its job.")
    if watchdog.connected():
      watchdog.leave(_code_of(error))
    sys.exit(_code_of(error))
  sys.exit(code)


def end_at_once(message: str) -> NoReturn:
  """Ends this process from any thread, so that it is started again: it writes nothing more."""
  # A terminal or pipe that hangs must not hold it back.
  printing = threading.Thread(target=print_error, args=(message,), daemon=True)
  printing.start()
  printing.join(_PRINTING_SECONDS)
  watchdog.finished(ExitCode.PROCESS_LOST)
  os._exit(ExitCode.PROCESS_LOST)


def _code_of(error: Exception) -> ExitCode:
  if isinstance(error, FloatingPointError):
    return ExitCode.DIVERGED
  if isinstance(error, StorageError):
    return ExitCode.STORAGE
  if isinstance(error, UserError):  # Also one that is raised late, about a file that is damaged.
    return ExitCode.MISTAKE
  return ExitCode.PROCESS_LOST if watchdog.explain(error) else ExitCode.UNEXPECTED


class _OutputClosedError(Exception):
  """No program reads the standard output any more."""


def _run_and_print(main: Main, argv: Sequence[str]) -> int:
  """Calls `main` and writes all that it printed, also if it exits, as --help does.

  Returns the exit code.

  Raises:
    _OutputClosedError: the output is a pipe and its reader has closed it.
  """
  try:
    try:
      code = main(argv)
    except SystemExit as error:
      if isinstance(error.__context__, BrokenPipeError):  # rich exits with code 1 at a closed pipe.
        raise _OutputClosedError from None
      sys.stdout.flush()
      raise
    sys.stdout.flush()
    return int(code or ExitCode.FINISHED)
  except BrokenPipeError:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not poll.poll(0):  # Another pipe or connection was closed.
      raise
    raise _OutputClosedError from None


def print_error(message: str) -> None:
  """Prints "error: " and the message to the standard error."""
  sys.stdout.flush()
  red, plain = ("\033[1;31m", "\033[0m") if output.has_colours(sys.stderr) else ("", "")
  print(f"\n{red}error:{plain} {as_started(message)}", file=sys.stderr, flush=True)
