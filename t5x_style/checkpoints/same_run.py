"""Checks that a checkpoint is of the run that is about to resume from it."""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from typing import Any

from t5x_style.errors import UserError, shortened
from t5x_style.models import Experts, RotaryScaling
from t5x_style.training import resuming
from t5x_style.training.setup import Prepared

_ADVICE = (
  "Set another MODEL_DIR, or the settings that the run began with. To start only from its "
  "parameters, set INITIAL_CHECKPOINT_PATH."
)


def check_same_run(
  prepared: Prepared, saved: dict[str, Any], settings: Mapping[str, Any] | None = None
) -> None:
  """Checks that a run may resume from a checkpoint (t5x_style.training.resuming).

  Args:
    saved: Prepared.identity() of the run that saved it.
    settings: its Prepared.settings(); checkpoints of earlier versions have none.

  Raises:
    UserError: it is another run, or its corpus has changed; the message shows what differs.
  """
  present, saved = _as_json(prepared.identity()), _with_defaults(prepared, saved)
  had_clipping = saved.pop("clip_gradient_norm", prepared.config.clip_gradient_norm)
  if present != saved:
    _check_corpus(prepared, present, saved, settings or {})
    raise UserError(
      f"MODEL_DIR = {str(prepared.model_dir)!r} holds checkpoints of another run "
      f"(- there, + here):\n{_difference(saved, present)}\n{_ADVICE}"
    )
  layout = (settings or {}).get("layout", resuming.layout(prepared.abstract))
  clipping = prepared.config.clip_gradient_norm
  if layout != resuming.layout(prepared.abstract) or (had_clipping is None) != (clipping is None):
    changed = resuming.changes(settings or {}, prepared.config, prepared.partitioner, 0)
    lines = changed or [f"CLIP_GRADIENT_NORM: {had_clipping} -> {clipping}"]
    raise UserError(
      f"The optimizer's state in MODEL_DIR = {str(prepared.model_dir)!r} has another layout than "
      "this run's, because of one of these settings:\n"
      + "\n".join(f"  {line}" for line in shortened(lines))
      + f"\n{_ADVICE}"
    )


def _with_defaults(prepared: Prepared, saved: dict[str, Any]) -> dict[str, Any]:
  """Adds the options that are newer than a checkpoint: it was computed with today's defaults."""
  found = _as_json(saved)
  for past in found.get("past_stages", ()):
    past |= {k: v for k, v in _with_defaults(prepared, past).items() if k in past}
  for name in ("model", "loss"):
    fields = dataclasses.fields(getattr(prepared.config, name))
    defaults = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
    present = prepared.identity()[name]
    found[name] = _as_json({k: v for k, v in defaults.items() if k in present}) | found[name]
  if scaling := found["model"].get("rotary_scaling"):
    found["model"]["rotary_scaling"] = dataclasses.asdict(RotaryScaling(**scaling))
  if experts := found["model"].get("experts"):
    found["model"]["experts"] = dataclasses.asdict(Experts(**experts))
  if found["optimizer"] == "partial":  # An earlier version did not look into partial functions.
    found["optimizer"] = prepared.identity()["optimizer"]
  return found


def _difference(saved: Any, present: Any) -> str:
  """Returns the lines of JSON in which two values differ."""
  before, now = (
    json.dumps(x, indent=1, sort_keys=True).splitlines()
    for x in map(_with_prefixes, (saved, present))
  )
  lines = [
    f"  {line[0]} {line[1:].strip().rstrip(',')}"
    for line in difflib.unified_diff(before, now, n=0, lineterm="")
    if line[0] in "+-" and not line.startswith(("---", "+++"))
  ]
  return "\n".join(shortened(lines))


def _with_prefixes(value: Any) -> Any:
  """Returns JSON values whose experts have "experts.dropout_rate": the model has one too."""
  if isinstance(value, list):
    return [_with_prefixes(x) for x in value]
  if not isinstance(value, dict):
    return value
  found = {name: _with_prefixes(x) for name, x in value.items()}
  if isinstance(experts := found.get("experts"), dict):
    found["experts"] = {f"experts.{name}": x for name, x in experts.items()}
  return found


def _check_corpus(
  prepared: Prepared, present: dict[str, Any], saved: dict[str, Any], settings: Mapping[str, Any]
) -> None:
  """Raises UserError, which names the files, if nothing but the text of the corpus differs."""
  old, new = (
    {name: x["data"][name] for name in ("corpus", "replay_corpus") if name in x["data"]}
    for x in (saved, present)
  )
  if not old or old.keys() != new.keys() or saved | {"data": saved["data"] | new} != present:
    return
  if any(old[name]["name"] != new[name]["name"] for name in new):
    return
  lines = _changed_files(settings.get("files", {}), prepared.dataset.files())
  copied = not lines and any(corpus["name"] == "jsonl" for corpus in new.values())
  raise UserError(
    f"The corpus is not the one that the run in MODEL_DIR = {str(prepared.model_dir)!r} began "
    "with"
    + (":\n" + "\n".join(f"  {line}" for line in shortened(lines)) if lines else ".")
    + "\nOnly with the same text can the run resume exactly: restore these files. To train on the "
    "new text, set another MODEL_DIR, and INITIAL_CHECKPOINT_PATH to this one."
    + (f"\n{_OF_COPIES}" if copied else "")
  )


# Before CORPUS_COPY there was always a copy, and a copy has a checksum of its own.
_OF_COPIES = (
  "If the run began with a copy of JSON lines, as earlier versions made one, set CORPUS_COPY = "
  "True, which reads that copy, or makes it again if it is lost."
)


def _changed_files(before: Mapping[str, list], now: Mapping[str, list]) -> list[str]:
  """Returns a line for each file that changed; both arguments are {file: [bytes, checksum]}."""
  if not before or not now:
    return []
  lines = [f"{file} is missing" for file in before if file not in now]
  lines += [f"{file} is new" for file in now if file not in before]
  for file in before.keys() & now.keys():
    (old, old_text), (new, new_text) = before[file], now[file]
    if old != new:
      lines.append(f"{file} has {new:,} bytes, and had {old:,}")
    elif old_text != new_text:
      lines.append(f"{file} has another text")
  return sorted(lines)


def _as_json(value: Any) -> Any:
  return json.loads(json.dumps(value))
