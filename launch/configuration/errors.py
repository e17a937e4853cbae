"""What a person sees who made a mistake: the mistake and what to write instead, no traceback."""

import contextlib
import difflib
import errno
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn

from launch.process import watchdog
from t5x_style.errors import UserError

# gin adds one such line for every configurable on the way to the one that raised.
_GIN_TRAIL = re.compile(
  r"\n  (In call to configurable|No values supplied by Gin|Gin had values|"
  r"Caller supplied values)[^\n]*"
)


# Errors of the file system that name no path.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class ConfigurationError(UserError):
  """What was set cannot work. The message says what, where it was set, and what to write."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
  """The names most like `name`, the likest first; upper and lower case count as alike."""
  by_folded = {candidate.casefold(): candidate for candidate in known}
  found = difflib.get_close_matches(name.casefold(), by_folded, n=count, cutoff=0.6)
  return [by_folded[folded] for folded in found]


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """ " Did you mean 'a' or 'b'?", or nothing where no name is near."""
  names = [repr(candidate) for candidate in nearest(name, known)]
  return f" Did you mean {' or '.join(names)}?" if names else ""


@contextlib.contextmanager
def setup() -> Iterator[None]:
  """While a run is built, what a person can put right becomes a ConfigurationError: UserError, and
  what the operating system says about a path. Every other exception keeps its traceback."""
  try:
    yield
  except ConfigurationError:
    raise
  except UserError as error:
    raise ConfigurationError(plain_message(error)) from error
  except OSError as error:
    if error.filename is None and error.errno not in _NO_ROOM:
      raise
    raise ConfigurationError(plain_message(error)) from error


def plain_message(error: BaseException) -> str:
  """The message of an error without the trail of calls that gin appends to it."""
  return _GIN_TRAIL.sub("", str(error)).strip()


def run_command(
  main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None
) -> NoReturn:
  """Runs a command and ends the process.

  Exit codes: 0 done; 1 training failed, as when the loss is no longer a number, a file turns out
  to be damaged or another process of the job is lost; 2 a mistake in the configuration; 130
  interrupted. With --traceback in `argv` errors show where they come from.
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
  """ "error: ..." on the standard error, later lines as they are."""
  sys.stdout.flush()
  red, plain = ("\033[1;31m", "\033[0m") if sys.stderr.isatty() else ("", "")
  print(f"\n{red}error:{plain} {message}", file=sys.stderr, flush=True)
