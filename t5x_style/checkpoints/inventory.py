"""What a folder of checkpoints holds: complete steps, unfinished ones and damaged ones."""

import concurrent.futures
import contextlib
import dataclasses
import datetime
import enum
import json
import re
from collections.abc import Iterator
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

from t5x_style.checkpoints.arrays import check_path
from t5x_style.errors import UserError

_UNFINISHED = ocp.utils.TMP_DIR_SUFFIX
_DAMAGED = re.compile(r"damaged-(\d+)(-\d+)?")


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
    skipped_steps: how many steps up to this one changed no parameter; None where nothing says.
    has_digests: whether `verify` can tell that every number is as it was saved.
    note: why it is damaged or not whole; "" where nothing is known to be wrong.
  """

  path: epath.Path
  kind: Kind
  step: int | None
  saved: datetime.datetime | None
  size: int
  validation_loss: float | None = None
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
    found = [_entry(folder, Kind.COMPLETE, {})]
  else:
    losses = _validation_losses(folder.parent / "metrics.jsonl")
    found = [_entry(path, kind, losses) for path in folder.iterdir() if (kind := _kind(path))]
  order = list(Kind)
  return sorted(found, key=lambda x: (x.step or 0, order.index(x.kind), x.path.name))


def complete(folder: epath.Path) -> list[epath.Path]:
  """Returns the complete steps of a `checkpoints_folder`, the newest last."""
  if (folder / "state").is_dir():
    return [folder]
  steps = [path for path in folder.iterdir() if _kind(path) is Kind.COMPLETE]
  return sorted(steps, key=lambda path: int(path.name))


def _kind(path: epath.Path) -> Kind | None:
  """Returns what a folder among checkpoints is; None for what is no checkpoint."""
  name = path.name
  if _UNFINISHED in name:
    return Kind.UNFINISHED
  if _DAMAGED.fullmatch(name):
    return Kind.DAMAGED
  if not name.isdigit():
    return None
  return Kind.COMPLETE if ocp.utils.is_checkpoint_finalized(path) else Kind.UNFINISHED


def _entry(path: epath.Path, kind: Kind, losses: dict[int, float]) -> Entry:
  number = re.search(r"\d+", path.name)
  named = _DAMAGED.fullmatch(path.name) or path.name.partition(_UNFINISHED)[0].isdigit()
  step = int(number[0]) if number and named else None
  orbax, run = _json(path / "_CHECKPOINT_METADATA"), _json(path / "run" / "metadata")
  nanoseconds = orbax.get("commit_timestamp_nsecs") or orbax.get("init_timestamp_nsecs")
  seconds = nanoseconds / 1e9 if nanoseconds else _modified(path)
  note = ""
  if kind is Kind.COMPLETE and not (path / "state").is_dir():
    note = "not whole: it holds no state"
  return Entry(
    path,
    kind,
    step,
    datetime.datetime.fromtimestamp(seconds).astimezone() if seconds else None,
    _size(path),
    losses.get(step) if kind is Kind.COMPLETE and step is not None else None,
    (run.get("guard") or {}).get("skipped"),
    bool(run.get("digests")),
    note,
  )


def _json(path: epath.Path) -> dict[str, Any]:
  """Returns the object in a file of JSON; {} if there is none or it is damaged."""
  try:
    content = json.loads(path.read_text())
  except (OSError, ValueError):
    return {}
  return content if isinstance(content, dict) else {}


def _modified(path: epath.Path) -> float | None:
  with contextlib.suppress(OSError):
    return path.stat().mtime
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
