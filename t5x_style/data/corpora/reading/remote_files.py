"""Files of other protocols than the local disk's, such as gs:// and s3://, opened with fsspec.

fsspec takes credentials as the services' own tools do (`gcloud auth application-default login`,
`aws configure`), and settings from the environment, e.g. FSSPEC_S3_ANON=true for public buckets or
FSSPEC_S3_ENDPOINT_URL for other servers of S3's protocol.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from t5x_style.errors import UserError

# The packages of protocols that fsspec opens only with them, as extras of this package.
_EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}


class Status(NamedTuple):
  """A file's size in bytes, and a number that is another one once the file is written again."""

  size: int
  version: int


def is_remote(path: str) -> bool:
  """Returns whether the path names a protocol, as gs://bucket/file."""
  return "://" in path


def glob(pattern: str) -> list[str]:
  """Returns the files that match `pattern`.

  Raises:
    UserError: the place cannot be listed, or the package of its protocol is not installed.
  """
  system, path = _opened(pattern)
  with _listing(pattern):
    names = system.glob(path, detail=True)
    found = [name for name, info in names.items() if info["type"] != "directory"]
    return sorted(system.unstrip_protocol(name) for name in found)
  return []


def below(folder: str) -> list[str] | None:
  """Returns the files below a folder; None if it is none. Raises UserError as `glob` does."""
  system, path = _opened(folder)
  with _listing(folder):
    if any(c in path for c in "*?[") or not system.isdir(path):
      return None
    return sorted(system.unstrip_protocol(name) for name in system.find(path))
  return None


@contextlib.contextmanager
def _listing(pattern: str) -> Iterator[None]:
  """Passes over what is not there; turns other errors into a UserError."""
  try:
    with _as_os_errors():
      yield
  except FileNotFoundError:
    return
  except OSError as error:
    raise UserError(
      f"{pattern} cannot be listed ({error.strerror}). Check the name, the network and the "
      "credentials."
    ) from error


def open_file(url: str) -> io.RawIOBase:
  """Opens a file for reading at any offset.

  Raises:
    UserError: the package of its protocol is not installed.
    OSError: the file cannot be opened. Errors of reading are OSErrors, too.
  """
  system, path = _opened(url)
  with _as_os_errors():
    return _Reported(system.open(path, "rb"))


def status(url: str) -> Status:
  """Returns what the server says of a file now; raises OSError if it cannot be asked."""
  system, path = _opened(url)
  with _as_os_errors():
    system.invalidate_cache(path)
    return Status(int(system.info(path)["size"]), system.checksum(path))


def _opened(url: str) -> tuple[Any, str]:
  import fsspec

  protocol = url.split("://")[0]
  if "::" in url:
    raise UserError(f"{url!r} chains protocols (::), which is not supported; name the files.")
  try:
    return fsspec.core.url_to_fs(url)
  except ImportError as error:
    extra = _EXTRAS.get(protocol)
    package = f"'t5x_style[{extra}]'" if extra else "the package that it needs"
    raise UserError(
      f"{url}: {protocol}:// is read with a package that is not installed ({error}). Install it: "
      f"pip install {package}."
    ) from error
  except ValueError as error:
    raise UserError(
      f"{url}: {protocol}:// is no protocol that can be read ({error}); there are gs://, s3:// and "
      "those of fsspec.available_protocols()."
    ) from error
  except Exception as error:  # Every protocol has errors of its own, e.g. for credentials.
    raise UserError(f"{url} cannot be opened ({type(error).__name__}: {error}).") from error


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
  """Turns the errors of the protocols' packages into OSErrors with a reason."""
  try:
    yield
  except OSError as error:
    if error.strerror:
      raise
    kind = type(error) if isinstance(error, FileNotFoundError | PermissionError) else OSError
    code = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES}.get(kind, errno.EIO)
    raise kind(code, str(error) or os.strerror(code)) from error
  except Exception as error:  # As above.
    raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error


class _Reported(io.RawIOBase):
  """An open file whose errors are OSErrors."""

  def __init__(self, file: Any):
    self._file = file

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
    with _as_os_errors():
      content = self._file.read(len(buffer))
    buffer[: len(content)] = content
    return len(content)

  def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
    return cast(int, self._file.seek(offset, whence))

  def tell(self) -> int:
    return cast(int, self._file.tell())

  def close(self) -> None:
    if not self.closed:
      self._file.close()
    super().close()
