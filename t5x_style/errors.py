"""UserError: an error the user can fix; only its message is printed."""

import errno
from collections.abc import Sequence

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # what the system says of a full disk or quota
_LINES = 12  # of a list


class UserError(ValueError):
  """A setting or a file of the user is invalid.

  The message says what is wrong, the value, where it was set and what to write instead; commands
  print it without a traceback. Any other exception is a bug and keeps its traceback.
  """


class StorageError(UserError):
  """A run cannot store its checkpoints any more, for example because a disk is full.

  The same command continues from the newest checkpoint once there is room.
  """


def require_positive(**numbers: int | None) -> None:
  """Raises UserError if a number is below 1; None is one that was not set."""
  for name, number in numbers.items():
    if number is not None and number < 1:
      raise UserError(f"{name} = {number} must be 1 or more.")


def shortened(lines: Sequence[str]) -> list[str]:
  """Returns the first dozen lines of a list, and one that says how many more there are."""
  left = len(lines) - _LINES
  if left <= 0:
    return list(lines)
  indent = " " * (len(lines[0]) - len(lines[0].lstrip()))
  return [*lines[:_LINES], f"{indent}... and {left:,} more"]


def first_line(error: BaseException) -> str:
  """Returns an error's type and the first line of its message."""
  line = next(iter(str(error).strip().splitlines()), "")
  return f"{type(error).__name__}: {line[:300]}"
