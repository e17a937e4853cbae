"""Runs a command: what it prints about an error, and the exit code of its process."""

import os
import select
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from t5x_style.errors import UserError

from . import watchdog
from .environment import as_started
from .errors import ConfigurationError, plain_message


def run(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> NoReturn:
  """Runs a command and ends the process.

  Exit codes: 0 the command is done; 1 it failed, for example because the loss is not finite, a file
  is damaged or another process of the job is lost; 2 the configuration is wrong; 130 the user
  interrupted it; 141 the program that reads its output has ended, as `head` does. With --traceback
  in `argv` an error is shown with its traceback.
  """
  argv = sys.argv if argv is None else argv
  try:
    _run_and_print(main, argv)
    watchdog.finished()
  except _OutputClosedError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest there.
    if watchdog.connected():
      watchdog.leave(141)
    sys.exit(141)
  except (ConfigurationError, FloatingPointError) as error:
    if "--traceback" in argv:
      traceback.print_exc()
    print_error(plain_message(error))
    watchdog.finished()
    sys.exit(2 if isinstance(error, ConfigurationError) else 1)
  except KeyboardInterrupt:
    print_error("interrupted")
    watchdog.finished()
    sys.exit(130)
  except Exception as error:
    known = plain_message(error) if isinstance(error, UserError) else watchdog.explain(error)
    if known is None and not watchdog.connected():
      raise
    if known is None or "--traceback" in argv:
      traceback.print_exc()
    print_error(known or "This process ends, and with it the others of its job.")
    if watchdog.connected():
      watchdog.leave(1)
    sys.exit(1)
  sys.exit(0)


class _OutputClosedError(Exception):
  """No program reads the standard output any more."""


def _run_and_print(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
  """Calls `main` and writes all that it printed, also if it exits, as --help does.

  Raises:
    _OutputClosedError: the output is a pipe and its reader has closed it.
  """
  try:
    try:
      main(argv)
    except SystemExit as error:
      if isinstance(error.__context__, BrokenPipeError):  # rich exits with code 1 at a closed pipe.
        raise _OutputClosedError from None
      sys.stdout.flush()
      raise
    sys.stdout.flush()
  except BrokenPipeError:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if not poll.poll(0):  # Another pipe or connection was closed.
      raise
    raise _OutputClosedError from None


def print_error(message: str) -> None:
  """Prints "error: " and the message to the standard error."""
  sys.stdout.flush()
  red, plain = ("\033[1;31m", "\033[0m") if sys.stderr.isatty() else ("", "")
  print(f"\n{red}error:{plain} {as_started(message)}", file=sys.stderr, flush=True)
