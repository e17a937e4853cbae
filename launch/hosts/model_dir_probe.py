"""Finds out whether all processes of a job see the same MODEL_DIR: each writes, others read."""

import contextlib
import time
from collections.abc import Callable

from etils import epath

_ATTEMPTS = 4  # A network's folder may show a new file a moment later.
_BETWEEN_SECONDS = 1.0


def probe(
  folder: epath.PathLike, index: int, count: int, token: str, meet: Callable[[str], None]
) -> tuple[str, tuple[int, ...]]:
  """Writes a file, and reads those of process 0 and of the next process. All processes call it.

  Args:
    folder: MODEL_DIR, which exists in each process.
    index, count: which process this is, and of how many.
    token: what the files hold and are named after, the same in all processes.
    meet: waits until all processes have called it with the same word.

  Returns:
    why this process cannot write, "" if it can; and the processes whose files it does not find.
  """
  folder = epath.Path(folder).expanduser()

  def file_of(process: int) -> epath.Path:
    return folder / f".preflight-{token}-{process}"

  error = ""
  try:
    file_of(index).write_text(token)
  except Exception as problem:  # A bucket's errors are no OSErrors.
    error = f"{type(problem).__name__}: {problem}"
  meet("written")
  others = sorted({0, (index + 1) % count} - {index})
  unseen = tuple(other for other in others if not _holds(file_of(other), token))
  meet("read")
  with contextlib.suppress(Exception):
    file_of(index).unlink(missing_ok=True)
  return error, unseen


def _holds(path: epath.Path, text: str) -> bool:
  for attempt in range(_ATTEMPTS):
    if attempt:
      time.sleep(_BETWEEN_SECONDS)
    with contextlib.suppress(Exception):
      if path.read_text() == text:
        return True
  return False
