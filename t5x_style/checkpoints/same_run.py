"""Checks that a checkpoint is of the run that is about to resume from it."""

import dataclasses
import difflib
import json
from typing import Any

from t5x_style.errors import UserError, shortened
from t5x_style.training.setup import Prepared


def check_same_run(prepared: Prepared, saved: dict[str, Any]) -> None:
  """Raises UserError, which shows what differs, if `saved` is not the identity of this run."""
  present = json.loads(json.dumps(prepared.identity()))
  # A checkpoint older than an option was computed with what is the option's default today.
  defaults = {
    field.name: json.loads(json.dumps(field.default))
    for field in dataclasses.fields(prepared.config.model)
    if field.default is not dataclasses.MISSING and field.name in present["model"]
  }
  saved = saved | {"model": defaults | saved["model"]}
  if present == saved:
    return
  before, now = (json.dumps(x, indent=1, sort_keys=True).splitlines() for x in (saved, present))
  lines = [
    f"  {line[0]} {line[1:].strip().rstrip(',')}"
    for line in difflib.unified_diff(before, now, n=0, lineterm="")
    if line[0] in "+-" and not line.startswith(("---", "+++"))
  ]
  raise UserError(
    f"MODEL_DIR = {str(prepared.model_dir)!r} holds checkpoints of another run "
    "(- there, + here):\n"
    + "\n".join(shortened(lines))
    + "\nSet another MODEL_DIR, or the settings that the run began with. To start only from its "
    "parameters, set INITIAL_CHECKPOINT_PATH."
  )
