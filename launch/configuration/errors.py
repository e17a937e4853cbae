"""What a person sees who made a mistake: the mistake and what to write instead, no traceback."""

import contextlib
import difflib
import errno
import re
from collections.abc import Iterable, Iterator

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
def as_configuration_errors() -> Iterator[None]:
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
