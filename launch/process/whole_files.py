"""Files that are written as a whole: a reader sees the one before or the one after.

Several processes, also of several machines, may write the same file.
"""

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from etils import epath


def write(path: Path | epath.Path, content: str | bytes) -> None:
  """Replaces a file at once, also if the process is killed or the disk is full.

  Args:
    path: its folder exists.
    content: text is written as UTF-8.

  Raises:
    OSError: it cannot be written; the file that was there stays.
  """
  path = epath.Path(path)
  part = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
  try:
    with part.open("wb") as file:
      file.write(content if isinstance(content, bytes) else content.encode())
      file.flush()
      if hasattr(file, "fileno"):  # Files of a bucket have none.
        os.fsync(file.fileno())
  except OSError:
    with contextlib.suppress(OSError):
      part.unlink(missing_ok=True)
    raise
  part.replace(path)


def write_json(path: Path | epath.Path, values: Any) -> None:
  """Writes JSON as `write` does."""
  write(path, json.dumps(values, ensure_ascii=False, indent=1) + "\n")
