"""Keeps what Orbax prints about a failed read or write out of the terminal.

Orbax raises an error at the first array that fails, and prints its traceback. The threads that work
on other arrays then fail as well, or find no event loop, and Python prints that. The caller of
Orbax reports the error in one line.
"""

import logging
import os
import sys
import traceback
from typing import Any

_PATH = os.path.join("orbax", "checkpoint", "")


def silence() -> None:
  """Prevents these messages, from now on and in all threads."""
  for name in ("absl", "asyncio"):
    logger = logging.getLogger(name)
    if _is_of_others not in logger.filters:
      logger.addFilter(_is_of_others)
  if not isinstance(sys.unraisablehook, _Hook):
    sys.unraisablehook = _Hook(sys.unraisablehook)


def _is_of_others(record: logging.LogRecord) -> bool:
  trace = record.exc_info[2] if record.exc_info else None
  files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace)]
  in_orbax = any(_PATH in file for file in (record.pathname, *files))
  return not (in_orbax or _is_of_tensorstore(record.getMessage()))


def _is_of_tensorstore(text: str) -> bool:
  return "tensorstore" in text.lower() or "[os_error_code=" in text


class _Hook:
  """Passes on the errors that Python cannot raise, except for those of Orbax's threads."""

  def __init__(self, previous: Any):
    self._previous = previous

  def __call__(self, unraisable: Any) -> None:
    text = str(unraisable.exc_value)
    if "Event loop is closed" not in text and not _is_of_tensorstore(text):
      self._previous(unraisable)
