"""A JSONL file with a record for each line of the input, which a killed process can continue.

Records are appended in the order of the input, so how many there are says what is done. A last
record that was not written whole is cut off. Beside the file, FILE.settings.json says what makes
it, so that two different inputs or settings are never mixed in one file.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..process.errors import ConfigurationError


class OutputFile:
  """The file of --output.

  Attributes:
    done: how many records it holds.
    errors: how many of these say that their line could not be used.
  """

  def __init__(self, path: str, settings: Mapping[str, Any]):
    """Opens the file, or the one that an earlier process began.

    Args:
      path: of the file; the folder has to exist.
      settings: JSON values, of which equal ones give the same records.

    Raises:
      ConfigurationError: another process writes the file, or it was made from another input or with
        other settings, or by another program.
    """
    self._path = Path(path).expanduser()
    self._beside = self._path.with_name(f"{self._path.name}.settings.json")
    self._flag = f"--output={path}"
    self.done = self.errors = 0
    new = not self._path.exists()
    if not new and not self._path.is_file():
      raise ConfigurationError(f"{self._flag} is no file; give the name of a new one.")
    if not self._path.parent.is_dir():
      raise ConfigurationError(f"{self._flag}: the folder {self._path.parent} does not exist.")
    self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
      self._lock()
      self._check_settings(settings)
      self._read()
    except BaseException:
      os.close(self._descriptor)
      raise

  def add(self, records: Iterable[Mapping[str, Any]]) -> None:
    """Appends records and hands them to the operating system: a kill does not lose them.

    Raises:
      OSError: they cannot be written; the file then holds whole records still.
    """
    lines = list(map(encoded, records))
    left = memoryview(b"".join(lines))
    size = os.fstat(self._descriptor).st_size
    try:
      while left:
        left = left[os.write(self._descriptor, left) :]
    except OSError as error:
      os.ftruncate(self._descriptor, size)
      error.filename = str(self._path)
      raise
    self.done += len(lines)

  def close(self) -> None:
    """Writes the file to the disk and closes it."""
    os.fsync(self._descriptor)
    os.close(self._descriptor)

  def _lock(self) -> None:
    """Keeps other processes out; the lock ends with this process."""
    try:
      fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ConfigurationError(
        f"{self._flag} is being written by another process; wait for it, or choose another file."
      ) from error
    except OSError:  # A file system without locks.
      return

  def _check_settings(self, settings: Mapping[str, Any]) -> None:
    settings = json.loads(json.dumps(settings))
    empty = os.fstat(self._descriptor).st_size == 0
    if empty:
      part = self._beside.with_name(f"{self._beside.name}.part")
      with open(part, "w") as file:
        json.dump(settings, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
      part.replace(self._beside)
      return
    if not self._beside.exists():
      raise ConfigurationError(
        f"{self._flag} exists, without the file {self._beside.name} that this command writes "
        "beside it, and is not overwritten; choose another file or remove it."
      )
    before = json.loads(self._beside.read_text())
    names = [name for name in {**before, **settings} if before.get(name) != settings.get(name)]
    if names:
      different = "\n".join(
        f"  {name}: {before.get(name)!r} then, {settings.get(name)!r} now" for name in names
      )
      raise ConfigurationError(
        f"{self._flag} was begun with another input or other settings:\n{different}\n"
        f"Use those again, choose another file, or remove it and {self._beside.name}."
      )

  def _read(self) -> None:
    """Counts the records, and cuts off a last one that was not written whole."""
    whole = 0
    with open(self._path, "rb") as file:
      for number, line in enumerate(file, 1):
        record = _record(line)
        if record is None:
          if file.read(1):
            raise ConfigurationError(
              f"{self._flag}: line {number} is no record of this command, and others follow; "
              "choose another file or remove it."
            )
          break
        whole += len(line)
        self.done += 1
        self.errors += "error" in record
    if whole < os.fstat(self._descriptor).st_size:
      os.ftruncate(self._descriptor, whole)


def encoded(record: Mapping[str, Any]) -> bytes:
  """Returns a record as a line of JSON, in UTF-8."""
  try:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"
  except UnicodeEncodeError:  # Half of a surrogate pair, in a field that is repeated.
    return json.dumps(record).encode() + b"\n"


def _record(line: bytes) -> dict[str, Any] | None:
  """Returns the record of a line; None if it is not whole."""
  if not line.endswith(b"\n"):
    return None
  try:
    record = json.loads(line)
  except ValueError:
    return None
  return record if isinstance(record, dict) else None
