"""The folders of checkpoints: which are complete, and how one is begun, committed and removed.

A step has its own name, such as checkpoints/1000, only once it is complete. On a local disk it is
written under a temporary name and renamed. A bucket (gs://) cannot rename a folder: there a step is
complete once it holds the file commit_success.txt. Names and marker are those of Orbax. Folders
with other names, such as damaged-1000, are left alone.
"""

import contextlib
import os

import orbax.checkpoint as ocp
from etils import epath

from t5x_style.checkpoints import retention
from t5x_style.errors import UserError

BEST = "best"  # in a path: MODEL_DIR/best
COMMIT_MARKER = "commit_success.txt"
UNFINISHED = ocp.utils.TMP_DIR_SUFFIX  # ".orbax-checkpoint-tmp"


def renames(path: epath.PathLike) -> bool:
  """Returns whether a folder there can be renamed in one operation: everywhere but in buckets."""
  return "://" not in os.fspath(path)


def is_complete(folder: epath.Path) -> bool:
  """Returns whether a step's folder was committed. It may have been damaged later."""
  if renames(folder):
    return UNFINISHED not in folder.name and folder.is_dir()
  return (folder / COMMIT_MARKER).exists()


def complete_steps(checkpoints: epath.Path) -> list[int]:
  """Returns the committed steps of a folder of checkpoints, sorted; [] if there is no folder."""
  if not checkpoints.is_dir():
    return []
  numbers = [path.name for path in checkpoints.iterdir() if _is_step(path.name)]
  return sorted(int(name) for name in numbers if is_complete(checkpoints / name))


def find_step(path: epath.Path, named: str = "") -> epath.Path | None:
  """Returns the newest complete step of a MODEL_DIR or checkpoints folder, None if there is none.

  If `path` is a step, returns it. MODEL_DIR/best is the best step by BEST_METRIC of those kept.

  Args:
    named: what the error calls the path, such as the flag and its value.

  Raises:
    UserError: `path` is a step that was never completed, or no step was evaluated.
  """
  if path.name == BEST and not path.exists():
    return _best_step(path.parent, named or repr(str(path)))
  if (path / "state").exists():
    if is_complete(path):
      return path
    advice = "give another step, or the MODEL_DIR."
    if not renames(path):
      advice = f"{advice[:-1]}; if all its files are there, add an empty file {COMMIT_MARKER}."
    raise UserError(
      f"{named or repr(str(path))} is a checkpoint whose save was interrupted; {advice}"
    )
  for folder in (path / "checkpoints", path):
    steps = [folder / str(step) for step in complete_steps(folder)]
    if whole := [step for step in steps if (step / "state").exists()]:
      return whole[-1]
  return None


def _best_step(run: epath.Path, named: str) -> epath.Path | None:
  for folder in (run / "checkpoints", run):
    steps = [folder / str(step) for step in complete_steps(folder)]
    if whole := [step for step in steps if (step / "state").exists()]:
      if best := retention.best_of(whole):
        return best
      raise UserError(
        f"{named}: none of the steps {', '.join(step.name for step in whole)} was evaluated, so "
        "none is the best; name one of them, or save after evaluations (EVAL_PERIOD, SAVE_PERIOD)."
      )
  return None


def begin(checkpoints: epath.Path, step: int) -> epath.Path:
  """Makes the empty folder in which a step is written; removes what interrupted saves left.

  Raises:
    OSError: the folder cannot be made, or the step is complete already.
  """
  checkpoints.mkdir(parents=True, exist_ok=True)
  if is_complete(checkpoints / str(step)):
    raise FileExistsError(f"{checkpoints / str(step)} exists already")
  remove_leftovers(checkpoints, step)
  folder = unfinished(checkpoints, step)
  folder.mkdir()
  return folder


def unfinished(checkpoints: epath.Path, step: int) -> epath.Path:
  """Returns the folder in which a step is written until it is committed."""
  return checkpoints / (f"{step}{UNFINISHED}" if renames(checkpoints) else str(step))


def commit(checkpoints: epath.Path, step: int) -> None:
  """Makes a step that is written one of the complete steps; all or nothing."""
  folder = unfinished(checkpoints, step)
  (folder / COMMIT_MARKER).write_text(f"Step {step} is complete.")
  if renames(checkpoints):
    # TensorStore does this for its own files, which lie deeper.
    for path in (*folder.glob("*/*"), *folder.iterdir(), folder):
      _to_disk(path)
    folder.rename(checkpoints / str(step))
    _to_disk(checkpoints)


def remove(checkpoints: epath.Path, step: int) -> None:
  """Removes a complete step, which is no longer one as soon as its first file is gone."""
  folder = checkpoints / str(step)
  if renames(checkpoints):
    folder = folder.rename(checkpoints / f"{step}{UNFINISHED}-removed")
  else:
    (folder / COMMIT_MARKER).unlink()
  _delete(folder)


def remove_leftovers(checkpoints: epath.Path, step: int) -> bool:
  """Removes what interrupted saves and removals left on a local disk; in a bucket only `step`.

  In a bucket another step without the marker may be a whole one that was copied there.

  Returns:
    Whether there was anything.
  """
  if not checkpoints.is_dir():
    return False
  if renames(checkpoints):
    names = [path.name.partition(UNFINISHED) for path in checkpoints.iterdir()]
    left = [checkpoints / "".join(name) for name in names if _is_step(name[0]) and name[1]]
  else:
    left = [x for x in (unfinished(checkpoints, step),) if x.exists() and not is_complete(x)]
  for folder in left:
    _delete(folder)
  return bool(left)


def _delete(folder: epath.Path) -> None:
  ocp.path.deleter.PathDeleter(folder.parent).delete(folder)  # Knows all kinds of buckets.


def _is_step(name: str) -> bool:
  return name.isascii() and name.isdigit()


def _to_disk(path: epath.Path) -> None:
  """Waits until a local file, or the list of a folder, is on the disk, if the system can do it."""
  with contextlib.suppress(OSError):
    descriptor = os.open(path, os.O_RDONLY)
    try:
      os.fsync(descriptor)
    finally:
      os.close(descriptor)
