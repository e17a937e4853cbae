"""The errors that a person can put right: their message is all there is to show."""

from collections.abc import Sequence

_LINES = 12  # of a list


class UserError(ValueError):
  """What a person set, or a file that they gave, cannot work.

  The message says what is wrong, the value, where it was set and what to write instead: commands
  show it without a traceback. Any other exception is a fault of the program and keeps its own.
  """


def shortened(lines: Sequence[str]) -> list[str]:
  """The first dozen entries of a list in an error message, and how many more there are."""
  left = len(lines) - _LINES
  if left <= 0:
    return list(lines)
  indent = " " * (len(lines[0]) - len(lines[0].lstrip()))
  return [*lines[:_LINES], f"{indent}... and {left:,} more"]


def first_line(error: BaseException) -> str:
  """The kind of an error and the beginning of its message, for a message of one's own."""
  line = next(iter(str(error).strip().splitlines()), "")
  return f"{type(error).__name__}: {line[:300]}"
