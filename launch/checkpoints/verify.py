"""Reads all of every step, and says whether it is as it was saved."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from etils import epath

from t5x_style.checkpoints import inventory, reading
from t5x_style.checkpoints.damage import damage_is_named

from ..process.errors import ConfigurationError
from . import steps
from .output import bytes_of, progress

FLAGS = ("step", "json")
FOLDERS = (1,)


class Finding(NamedTuple):
  """What is known about a step after all of it was read."""

  name: str
  good: bool
  digests: bool  # whether it was saved with digests to compare with
  reason: str  # why it is not good

  def __str__(self) -> str:
    if not self.good:
      return f"damaged: {self.reason}"
    without = "; it was saved without digests: what is known is that it can be read and is finite"
    return "good" if self.digests else f"good{without}"


def run(values: Any, folders: Sequence[str]) -> int:
  folder = inventory.checkpoints_folder(folders[0])
  chosen = steps.of_folder(folders[0], steps.numbers(values))
  if not chosen:
    raise ConfigurationError(f"{folder} holds no complete checkpoint to verify.")
  width = max(len(path.name) for path in chosen)
  found = []
  if not values.json:
    print(f"{folder}\n", flush=True)
  for finding in _findings(folder, chosen):
    found.append(finding)
    if not values.json:
      print(f"  {finding.name:>{width}}  {finding}", flush=True)
  if values.json:
    objects = [finding._asdict() for finding in found]
    print(json.dumps({"folder": str(folder), "checkpoints": objects}))
  return 0 if all(finding.good for finding in found) else 1


def _findings(folder: epath.Path, chosen: Sequence[epath.Path]) -> Iterator[Finding]:
  entries = {entry.path: entry for entry in inventory.entries(folder)}
  for path in chosen:
    size = bytes_of(path, None)
    with (
      damage_is_named(f"{path} cannot be read"),
      progress(f"Verifying {path.name}", size) as read,
    ):
      reason = reading.find_damage(path, read)
    yield Finding(path.name, reason is None, entries[path].has_digests, reason or "")
