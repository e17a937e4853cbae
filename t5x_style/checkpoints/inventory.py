"""What a folder of checkpoints holds: complete steps, unfinished ones and damaged ones."""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import enum
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from t5x_style.checkpoints import retention, step_folders
from t5x_style.checkpoints.arrays import check_path
from t5x_style.errors import UserError

AVERAGE_OF = "average_of"  # in the item `run` of an average: the paths of its steps
DAMAGE_FILE = "damage.txt"  # in a damaged checkpoint that was set aside: why
_NAME = re.compile(rf"(\d+)({re.escape(step_folders.UNFINISHED)}.*)?", re.ASCII)
_DAMAGED_NAME = re.compile(r"damaged-(\d+)(-\d+)?", re.ASCII)


class Kind(enum.Enum):
  """What the folder of a checkpoint is."""

  COMPLETE = "complete"
  UNFINISHED = "unfinished"  # it is being saved, or the process that saved it has died
  DAMAGED = "damaged"  # found damaged when it was restored, and set aside


@dataclasses.dataclass(frozen=True)
class Entry:
  """One checkpoint.

  Attributes:
    path: its folder.
    step: None for a checkpoint that has no step, as launch.convert writes it.
    saved: when it was complete, or last written; None where nothing says.
    size: bytes of its files.
    validation_loss: nats per token at this step; None if there was no evaluation.
    best_metric: by which the run that saved it chooses the best step.
    best_value: of this metric; None if there was no evaluation.
    skipped_steps: how many steps up to this one changed no parameter; None where nothing says.
    has_digests: whether `verify` can tell that every number is as it was saved.
    note: why it is damaged or not whole, or what it is an average of; "" for any other.
  """

  path: epath.Path
  kind: Kind
  step: int | None
  saved: datetime.datetime | None
  size: int
  validation_loss: float | None = None
  best_metric: str = retention.DEFAULT_METRIC
  best_value: float | None = None
  skipped_steps: int | None = None
  has_digests: bool = False
  note: str = ""


def checkpoints_folder(path: epath.PathLike) -> epath.Path:
  """Returns the folder of the checkpoints that `path` means; `path` itself if it is one checkpoint.

  Args:
    path: a MODEL_DIR, its checkpoints folder, or one checkpoint; local or gs://.

  Raises:
    UserError: there are no checkpoints.
  """
  check_path(path)
  path = epath.Path(path).expanduser()
  if path.name == step_folders.BEST and not path.exists():
    path = step_folders.find_step(path) or path
  if (path / "state").is_dir():
    return path
  for folder in (path / "checkpoints", path):
    if folder.is_dir() and any(_kind(child) for child in folder.iterdir()):
      return folder
  what = "holds no checkpoint" if path.is_dir() else "does not exist"
  what = "is a file" if path.is_file() else what
  raise UserError(
    f"{str(path)!r} {what}; give a MODEL_DIR that was saved to, its checkpoints folder, or one "
    "step in it."
  )


def entries(folder: epath.Path) -> list[Entry]:
  """Returns all checkpoints of a `checkpoints_folder`, by step."""
  if (folder / "state").is_dir():
    found = [_entry(folder, _kind_of_step(folder), {})]
  else:
    losses = _validation_losses(folder.parent / "metrics.jsonl")
    found = [_entry(path, kind, losses) for path in folder.iterdir() if (kind := _kind(path))]
  order = list(Kind)
  return sorted(found, key=lambda x: (x.step or 0, order.index(x.kind), x.path.name))


def complete(folder: epath.Path) -> list[epath.Path]:
  """Returns the complete steps of a `checkpoints_folder`, the newest last."""
  if (folder / "state").is_dir():
    return [folder] if step_folders.is_complete(folder) else []
  return [folder / str(step) for step in step_folders.complete_steps(folder)]


def _kind(path: epath.Path) -> Kind | None:
  """Returns what a folder among checkpoints is; None for what is no checkpoint."""
  if _DAMAGED_NAME.fullmatch(path.name):
    return Kind.DAMAGED
  return _kind_of_step(path) if _NAME.fullmatch(path.name) else None


def _kind_of_step(path: epath.Path) -> Kind:
  return Kind.COMPLETE if step_folders.is_complete(path) else Kind.UNFINISHED


def _entry(path: epath.Path, kind: Kind, losses: dict[int, float]) -> Entry:
  named = _NAME.fullmatch(path.name) or _DAMAGED_NAME.fullmatch(path.name)
  step = int(named[1]) if named else None
  run = _json(path / "run" / "metadata")
  guard = run.get("guard")
  loss = retention.validation_loss(path)
  if loss is None and kind is Kind.COMPLETE and step is not None:
    loss = losses.get(step)  # Checkpoints of earlier versions do not hold it.
  metric = retention.saved_metric(path)
  return Entry(
    path,
    kind,
    step,
    _saved_at(path),
    _size(path),
    loss,
    metric,
    loss if metric == retention.DEFAULT_METRIC else retention.validation_value(path, metric),
    guard.get("skipped") if isinstance(guard, dict) else None,
    bool(run.get("digests")),
    _note(path, kind, run),
  )


def _note(path: epath.Path, kind: Kind, run: Mapping[str, Any]) -> str:
  if kind is Kind.COMPLETE and not (path / "state").is_dir():
    return "not whole: it holds no state"
  if AVERAGE_OF in run:
    return f"the average of {len(run[AVERAGE_OF])} steps: {', '.join(run[AVERAGE_OF])}"
  with contextlib.suppress(OSError, ValueError):
    return (path / DAMAGE_FILE).read_text().strip()
  return ""


def _json(path: epath.Path) -> dict[str, Any]:
  """Returns the object in a file of JSON; {} if there is none or it is damaged."""
  try:
    content = json.loads(path.read_text())
  except (OSError, ValueError):
    return {}
  return content if isinstance(content, dict) else {}


def _saved_at(folder: epath.Path) -> datetime.datetime | None:
  """Returns when a checkpoint was complete, or else when a file was last added to its folder."""
  for path in (folder / step_folders.COMMIT_MARKER, folder):  # A bucket knows no time of a folder.
    with contextlib.suppress(OSError):
      return datetime.datetime.fromtimestamp(path.stat().mtime).astimezone()
  return None


def _size(folder: epath.Path) -> int:
  """Returns the bytes of all files in a folder. A run may delete some meanwhile."""

  def size(path: epath.Path) -> int:
    with contextlib.suppress(FileNotFoundError):
      return path.stat().length
    return 0

  with concurrent.futures.ThreadPoolExecutor(16) as threads:  # In a bucket each takes a while.
    return sum(threads.map(size, _files(folder)))


def _files(folder: epath.Path) -> Iterator[epath.Path]:
  for above, _, names in folder.walk():
    yield from (above / name for name in names)


def _validation_losses(metrics: epath.Path) -> dict[int, float]:
  """Returns {step: validation loss} of a run's metrics.jsonl; {} if there is no such file."""
  losses = {}
  with contextlib.suppress(OSError):
    for line in metrics.read_text().splitlines():
      if '"validation"' in line:
        with contextlib.suppress(ValueError, KeyError, TypeError):
          record = json.loads(line)
          if record["split"] == "validation":
            losses[int(record["step"])] = float(record["loss"])
  return losses
