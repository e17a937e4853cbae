"""Runs a command: what it prints about an error, and the exit code of its process."""

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
  interrupted it. With --traceback in `argv` an error is shown with its traceback.
  """
  argv = sys.argv if argv is None else argv
  try:
    main(argv)
    watchdog.finished()
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


def print_error(message: str) -> None:
  """Prints "error: " and the message to the standard error."""
  sys.stdout.flush()
  red, plain = ("\033[1;31m", "\033[0m") if sys.stderr.isatty() else ("", "")
  print(f"\n{red}error:{plain} {as_started(message)}", file=sys.stderr, flush=True)
