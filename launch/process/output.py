"""The standard streams: those that were closed at the start, and those that fail later."""

import contextlib
import errno
import io
import os
import select
import sys
from typing import TextIO

_NAMES = {1: "standard output", 2: "standard error"}
# A stream that fails with another error, such as a full disk, may work again later.
_LOST_FOR_GOOD = (errno.EPIPE, errno.EIO, errno.EBADF)


def open_missing() -> None:
  """Opens the null device for each of the three streams that the process was started without.

  Otherwise the next file that is opened would get the number of that stream, and what native code
  prints would be written into it.
  """
  for descriptor in range(3):
    try:
      os.fstat(descriptor)
    except OSError:
      null = os.open(os.devnull, os.O_RDWR)  # It has the lowest number that is free: this one.
      os.set_inheritable(null, True)
  for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
    if getattr(sys, name) is None:
      setattr(sys, name, open(os.devnull, mode))


def escape_what_has_no_bytes() -> None:
  """Prints characters that the encoding of the terminal lacks as escapes, instead of an error.

  Texts and samples may have any character, also where the locale is not one of UTF-8.
  """
  for stream in (sys.stdout, sys.stderr):
    if not isinstance(stream, io.TextIOWrapper):
      continue
    partial = not stream.encoding.lower().startswith("utf")  # As in the locale C.
    if stream.errors == "strict" or (stream.errors == "surrogateescape" and partial):
      stream.reconfigure(errors="backslashreplace")


def has_colours(stream: TextIO) -> bool:
  """Returns whether the stream is a terminal that shows colours, and the user has not refused them.

  As rich decides it: by NO_COLOR (no-color.org) and the terminals that know no escape sequences.
  """
  refused = bool(os.environ.get("NO_COLOR"))
  return stream.isatty() and not refused and os.environ.get("TERM") not in ("dumb", "unknown")


def tolerate_failures() -> None:
  """Drops what cannot be written to the standard output and error, instead of raising an error.

  Their reader may have ended, their terminal may be gone, the disk with their file may be full. It
  is said once, on the other of the two.
  """
  for name in ("stdout", "stderr"):
    stream = getattr(sys, name)
    try:
      descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):  # A notebook's, or that of a test.
      continue
    with contextlib.suppress(OSError):
      stream.flush()
    tolerant = io.TextIOWrapper(
      io.BufferedWriter(_Tolerant(descriptor)),
      encoding=stream.encoding,
      errors=stream.errors,
      line_buffering=stream.line_buffering,
      write_through=stream.write_through,
    )
    setattr(sys, name, tolerant)


class _Tolerant(io.RawIOBase):
  """Writes to a file descriptor; drops what cannot be written."""

  def __init__(self, descriptor: int):
    self._descriptor = descriptor
    self._said = False

  def writable(self) -> bool:
    return True

  def fileno(self) -> int:
    return self._descriptor

  def isatty(self) -> bool:
    return os.isatty(self._descriptor)

  def write(self, data) -> int:
    left = memoryview(data).cast("B")
    size = len(left)
    try:
      while left:
        left = left[self._write_some(left) :]
    except OSError as error:
      self._failed(error)
    return size

  def _write_some(self, data: memoryview) -> int:
    try:
      return os.write(self._descriptor, data)
    except BlockingIOError:  # A pipe whose reader is slow, and which does not wait by itself.
      select.select([], [self._descriptor], [])
      return 0

  def _failed(self, error: OSError) -> None:
    if error.errno in _LOST_FOR_GOOD:
      null = os.open(os.devnull, os.O_WRONLY)
      os.dup2(null, self._descriptor)  # For native code, too.
      os.close(null)
    if self._said:
      return
    self._said = True
    other = 3 - self._descriptor
    if other in _NAMES:
      text = (
        f"\nwarning: the {_NAMES[self._descriptor]} cannot be written ({error.strerror}); what is "
        "printed there is lost, and the run continues.\n"
      )
      with contextlib.suppress(OSError):
        os.write(other, text.encode())
