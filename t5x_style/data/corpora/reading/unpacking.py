"""Unpacks gzip, bzip2, xz and Zstandard data, of all members that follow one another."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import re
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from t5x_style.errors import UserError

_READ = 2**17  # bytes of compressed data


class Format(NamedTuple):
  """A format of compressed data.

  Attributes:
    name: of the format.
    start: matches its first bytes.
    suffix: the end of file names.
    check: a command that checks files.
    cost: about how many times as long as gzip data of the same size it takes to unpack.
  """

  name: str
  start: re.Pattern[bytes]
  suffix: str
  check: str
  cost: int = 1


FORMATS = (
  Format("gzip", re.compile(rb"\x1f\x8b"), ".gz", "gzip -t"),
  Format("bzip2", re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), ".bz2", "bzip2 -t", cost=16),
  Format("xz", re.compile(rb"\xfd7zXZ\x00"), ".xz", "xz -t", cost=4),
  # The second is a frame to be skipped, with which files may begin.
  Format("Zstandard", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), ".zst", "zstd -t"),
)
HEAD = 10  # bytes, enough to recognise them
_WINDOW_LOG_MAX = 31  # of Zstandard: archives made with --long=31 need 2 GiB, others far less


class DamagedError(Exception):
  """Data cannot be unpacked; the text says why and after how many unpacked bytes."""

  def __init__(self, known: Format, reason: str, unpacked: int):
    super().__init__(f"its {known.name} data {reason}, after {unpacked:,} bytes of its text")
    self.check = known.check


def recognised(head: bytes) -> Format | None:
  """Returns the format of data by its first HEAD bytes."""
  return next((known for known in FORMATS if known.start.match(head)), None)


def named(file: str) -> Format | None:
  """Returns the format that the name of a file promises."""
  return next((known for known in FORMATS if file.endswith(known.suffix)), None)


class Unpacked(io.RawIOBase):
  """The unpacked content of a stream. Seeking backwards begins again; forwards unpacks all between.

  Raises:
    UserError: the package for Zstandard is not installed.
    DamagedError: while reading.
  """

  def __init__(self, packed: io.BufferedReader, known: Format, file: str = ""):
    """Creates a stream.

    Args:
      packed: is at its start, and is closed with this stream.
      known: its format.
      file: its name, for messages.
    """
    self.format = known
    self._packed, self._new = packed, _decompressor(known, file)
    self._restart()

  def _restart(self) -> None:
    self._packed.seek(0)
    self._unpacker = self._new()
    self._left = b""  # packed bytes after the end of a member
    self._position = 0
    self._inside = False  # a member that has begun and not ended
    self._members = 0

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def tell(self) -> int:
    return self._position

  def readinto(self, buffer: Any) -> int:
    content = self._read(len(buffer))
    buffer[: len(content)] = content
    self._position += len(content)
    return len(content)

  def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
    if whence != os.SEEK_SET:
      raise io.UnsupportedOperation("only offsets from the start are known")
    if offset < self._position:
      self._restart()
    while self._position < offset:
      content = self._read(min(_READ, offset - self._position))
      if not content:
        break
      self._position += len(content)
    return self._position

  def close(self) -> None:
    if not self.closed:
      self._packed.close()
    super().close()

  def _read(self, size: int) -> bytes:
    """Returns up to `size` bytes; b"" at the end of the last member."""
    while size:
      if self._unpacker.eof:
        self._left = self._unpacker.unused_data
        self._unpacker, self._inside = self._new(), False
        self._members += 1
      packed = b""
      if self._unpacker.needs_input:
        packed = self._left or self._packed.read(_READ)
        self._left = b""
        if not self._inside:
          # Some programs fill files up with zeros.
          packed = packed.lstrip(b"\0") if self._members else packed
          if self._members and packed and not self._begins(packed):
            raise self._damaged("is followed by other data")
        if not packed:
          if self._inside:
            raise self._damaged("ends too early")
          if not self._packed.peek(1):
            return b""
          continue
        self._inside = True
      try:
        content = self._unpacker.decompress(packed, size)
      except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, _zstd_error()) as error:
        raise self._damaged(f"is damaged ({error})") from error
      if content:
        return content
    return b""

  def _begins(self, packed: bytes) -> bool:
    """Returns whether a member begins with these bytes, of which there may be few."""
    head = packed[:HEAD] + self._packed.peek(HEAD)[: max(0, HEAD - len(packed))]
    return recognised(head) == self.format

  def _damaged(self, reason: str) -> DamagedError:
    return DamagedError(self.format, reason, self._position)


def _decompressor(known: Format, file: str) -> Callable[[], Any]:
  """Returns what creates an unpacker of one member, with the interface of bz2.BZ2Decompressor."""
  if known.name == "gzip":
    return _Gzip
  if known.name == "bzip2":
    return bz2.BZ2Decompressor
  if known.name == "xz":
    return lzma.LZMADecompressor
  zstd = _zstd()
  if zstd is None:
    raise UserError(
      f"{file}: Zstandard data is unpacked with a package that is not installed: pip install "
      "backports.zstd."
    )
  options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX}
  return lambda: zstd.ZstdDecompressor(options=options)


def _zstd() -> Any:
  try:
    from backports import zstd
  except ImportError:
    return None
  return zstd


def _zstd_error() -> type[Exception]:
  zstd = _zstd()
  return zstd.ZstdError if zstd else zlib.error


class _Gzip:
  """zlib's unpacker of one gzip member, with the interface of bz2.BZ2Decompressor."""

  def __init__(self) -> None:
    self._zlib = zlib.decompressobj(wbits=31)
    self._rest = b""
    self._more = False  # unpacked bytes may wait inside zlib

  @property
  def eof(self) -> bool:
    return self._zlib.eof

  @property
  def unused_data(self) -> bytes:
    return self._zlib.unused_data

  @property
  def needs_input(self) -> bool:
    return not (self._rest or self._more)

  def decompress(self, packed: bytes, size: int) -> bytes:
    content = self._zlib.decompress(self._rest + packed, size)
    self._rest = self._zlib.unconsumed_tail
    self._more = len(content) == size
    return content
