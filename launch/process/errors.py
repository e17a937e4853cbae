"""ConfigurationError: a wrong flag or setting; and what messages about it have in common."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator

from t5x_style.errors import NO_ROOM, StorageError, UserError

# gin adds such a line for every configurable between its call and the error.
_GIN_TRAIL = re.compile(
  r"\n  (In call to configurable|No values supplied by Gin|Gin had values|"
  r"Caller supplied values)[^\n]*"
)


class ConfigurationError(UserError):
  """A setting is wrong. The message says which, where it was set, and what to write instead."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
  """Returns the names most similar to `name`, the nearest first; case does not count."""
  by_folded = {candidate.casefold(): candidate for candidate in known}
  found = difflib.get_close_matches(name.casefold(), by_folded, n=count, cutoff=0.6)
  return [by_folded[folded] for folded in found]


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """Returns " Did you mean 'a' or 'b'?", or "" if no name is near."""
  names = [repr(candidate) for candidate in nearest(name, known)]
  return f" Did you mean {' or '.join(names)}?" if names else ""


@contextlib.contextmanager
def as_configuration_errors() -> Iterator[None]:
  """Turns what a user can fix into a ConfigurationError: UserErrors, and OSErrors about a path.

  A full disk is a StorageError. Every other exception keeps its type and traceback.
  """
  try:
    yield
  except (ConfigurationError, StorageError):
    raise
  except UserError as error:
    raise ConfigurationError(plain_message(error)) from error
  except OSError as error:
    if error.errno in NO_ROOM:
      place = "" if error.filename is None else f" for {error.filename!r}"
      raise StorageError(
        f"There is no room{place} ({error.strerror}); make room and start the same command again."
      ) from error
    if error.filename is None:
      raise
    raise ConfigurationError(f"{error.filename!r} cannot be used: {error.strerror}.") from error


def plain_message(error: BaseException) -> str:
  """Returns the message of an error without the list of calls that gin appends to it."""
  return _GIN_TRAIL.sub("", str(error)).strip()
