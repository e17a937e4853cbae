"""Whether a checkpoint and the data that it is measured on belong together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from t5x_style.checkpoints.arrays import orbax_arrays
from t5x_style.errors import UserError, shortened
from t5x_style.training.setup import Prepared
from t5x_style.training.state import named_leaves


def check(steps: Sequence[epath.Path], prepared: Prepared) -> None:
  """Checks the first of some checkpoints of one run that is not damaged.

  Raises:
    UserError: its parameters are not those of the model of the gin files, or the ids of the data
      stand for other text than in its run.
  """
  for step in steps:
    run = _run(step)
    try:
      stored = orbax_arrays(step / "state", "params", setting="MODEL_DIR")
    except UserError:
      continue  # What is damaged is reported when it is read.
    _check_parameters(step, {name: x.shape for name, x in stored.items()}, prepared)
    _check_vocabulary(step, run, prepared)
    return


def _check_parameters(
  step: epath.Path, saved: Mapping[str, tuple[int, ...]], prepared: Prepared
) -> None:
  wanted = {name: tuple(x.shape) for name, x in named_leaves(prepared.abstract.params).items()}
  if saved == wanted:
    return
  differing = [
    f"  {name}: saved {saved.get(name) or 'nothing'}, MODEL {wanted.get(name) or 'nothing'}"
    for name in sorted(saved.keys() | wanted.keys())
    if saved.get(name) != wanted.get(name)
  ]
  raise UserError(
    f"{str(step)!r} is a checkpoint of another model than MODEL of the gin files; "
    f"{len(differing)} parameters differ:\n"
    + "\n".join(shortened(differing))
    + "\nLeave out the gin files and settings that change MODEL, or name its own."
  )


def _check_vocabulary(step: epath.Path, run: Mapping[str, Any], prepared: Prepared) -> None:
  data = run.get("identity", {}).get("data", {})
  there, here = (_json(x.get("vocabulary")) for x in (data, prepared.dataset.identity()))
  if not there or not here:
    return
  facts = [
    f"  {name}: there {there.get(name)}, here {here.get(name)}"
    for name in sorted(there.keys() | here.keys())
    if name != "name" and there.get(name) != here.get(name)  # The file may be renamed.
  ]
  if not facts:
    return
  raise UserError(
    f"The vocabulary of the data is not the one that the run of {str(step)!r} was trained with, so "
    "its ids stand for other text:\n"
    + "\n".join(shortened(facts))
    + "\nSet VOCABULARY, VOCABULARY_FILE and EXTRA_IDS to those of the run, or leave them out."
  )


def _json(value: Any) -> Any:
  return json.loads(json.dumps(value))


def _run(step: epath.Path) -> dict[str, Any]:
  """Returns the JSON that a run saved with a step; {} where there is none, or it is damaged."""
  try:
    found = json.loads((step / "run" / "metadata").read_text())
  except (OSError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}
