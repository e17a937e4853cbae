"""A new folder that a command writes: it appears with all of its content, or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..process.errors import ConfigurationError


def check_new(flag: str, target: Path) -> None:
  """Raises ConfigurationError unless `target` is a folder that is empty or does not exist.

  Args:
    flag: the flag that names the folder, for messages.
  """
  if not target.resolve().name or target.name in ("", ".."):
    raise ConfigurationError(f"{flag} {target}: give the name of a new folder.")
  if target.is_symlink() and not target.exists():
    raise ConfigurationError(
      f"{flag} {target} is a link to {os.readlink(target)!r}, which does not exist. Make that "
      "folder, or give the name of a new one."
    )
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    what = "exists and is not empty" if target.is_dir() else "is a file"
    raise ConfigurationError(
      f"{flag} {target} {what}; nothing there is overwritten. Choose another folder or remove it."
    )


@contextlib.contextmanager
def all_or_nothing(flag: str, target: Path) -> Iterator[Path]:
  """Gives a temporary folder; its content moves to `target` at the end, or is removed on an error.

  The temporary folder is inside `target` if that exists (it may be a link or a mounted disk), or
  else in the nearest existing folder above it. Only what was created here is ever removed.

  Raises:
    ConfigurationError: the folder cannot be created.
  """
  place = target.resolve()
  above = next(folder for folder in (place, *place.parents) if os.path.lexists(folder))
  try:
    made = tempfile.TemporaryDirectory(prefix=".unfinished-", dir=above)
  except OSError as error:
    raise ConfigurationError(f"{flag} {target} cannot be created: {error.strerror}.") from error
  with made as temporary:
    part = Path(temporary) / "new"  # With the permissions of a usual folder, not of a private one.
    part.mkdir()
    yield part
    try:
      if place == above:
        for entry in sorted(part.iterdir()):
          entry.rename(place / entry.name)
      else:
        place.parent.mkdir(parents=True, exist_ok=True)
        part.rename(place)
    except OSError as error:
      raise ConfigurationError(f"{flag} {target} cannot be created: {error.strerror}.") from error
