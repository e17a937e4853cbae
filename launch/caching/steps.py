"""What a worker does: one piece of work, or one shard; its errors are written for the command."""

from __future__ import annotations

import json
import os
from pathlib import Path

from t5x_style.errors import NO_ROOM, UserError

from ..process import whole_files
from . import merge, plan, tokenize

TOKENIZE, MERGE = "tokenize", "merge"


def left(folder: Path, step: str) -> list[int]:
  """Returns the numbers of the pieces of work, or of the shards, that are not done."""
  if step == TOKENIZE:
    names = [f"{number:06d}" for number in range(len(plan.read(folder).pieces))]
  else:
    names = [shard.name for shard in plan.read_shards(folder)]
  present = set(os.listdir(plan.folders(folder)["work" if step == TOKENIZE else "shards"]))
  return [number for number, name in enumerate(names) if f"{name}.json" not in present]


def do(number: int, folder: str, step: str) -> None:
  """Does one piece of a step.

  What the user can correct is written to unfinished/errors; the command then ends with it, and no
  further piece is begun.
  """
  place = Path(folder)
  errors = plan.folders(place)["errors"]
  if any(errors.glob("*.json")):
    return
  try:
    if step == TOKENIZE:
      tokenize.tokenize(place, number)
    else:
      merge.merge(place, plan.read_shards(place)[number])
  except (UserError, OSError) as error:
    no_room = isinstance(error, OSError) and error.errno in NO_ROOM
    if not isinstance(error, UserError) and not no_room:
      raise
    found = {"message": str(error), "no_room": no_room}
    whole_files.write(errors / f"{step}-{number:06d}-{os.getpid()}.json", json.dumps(found))
