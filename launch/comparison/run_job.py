"""What is done for a run: it is trained to its last step, then judged; what is done is skipped."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from t5x_style.comparison.measures import Measured
from t5x_style.comparison.settings import Comparison

from . import arguments
from .processes import Stage
from .record import Record, Run

_EVALUATIONS = 8  # held-out losses of a run, and points of its curve
_RECORDS = 60  # of the training loss
TRAINING, JUDGING = "training", "judging"


class RunJob:
  """The stages of one run."""

  def __init__(
    self,
    run: Run,
    steps: int,
    all_steps: int,
    given: arguments.Given,
    comparison: Comparison,
    record: Record,
  ):
    """Plans a run.

    Args:
      steps: where it ends, perhaps only for now, in successive halving.
      all_steps: of the whole budget, for which its schedule is made.
    """
    self.run, self.steps = run, steps
    self._all_steps, self._given, self._comparison = all_steps, given, comparison
    self._record = record
    self._folder = Path(comparison.compare_dir).expanduser()
    self.model_dir = self._folder / "runs" / run.name
    self.log = self._folder / "runs" / f"{run.name}.log"
    self.judged = self._folder / "judged" / f"{run.name}.json"

  def stages(self) -> Iterator[Stage]:
    """Yields what is left of training and judging."""
    self._record.update(self.run, state="", error="")
    if not self._is_trained():
      yield Stage(TRAINING, "train", self._training())
    if not self._is_judged():
      self.judged.parent.mkdir(parents=True, exist_ok=True)
      yield Stage(JUDGING, "comparison.judge", self._judging())
    else:
      self._record.update(self.run, state="judged")

  def is_done(self) -> bool:
    """Returns whether nothing is left of training and judging."""
    return self._is_trained() and self._is_judged()

  def finished(self, stage: Stage, seconds: float) -> None:
    before = self._noted().get(f"{stage.name}_seconds", 0.0)
    self._record.update(self.run, **{f"{stage.name}_seconds": round(before + seconds, 1)})
    if stage.name == TRAINING:
      self._record.update(self.run, trained_steps=self.steps)
    else:
      self._record.update(self.run, state="judged")

  def failed(self, stage: Stage, message: str) -> None:
    self._record.update(self.run, state="failed", error=f"{stage.name}: {message}")

  def heartbeat(self) -> dict[str, Any]:
    """Returns MODEL_DIR/heartbeat.json of the run; {} if there is none."""
    try:
      return json.loads((self.model_dir / "heartbeat.json").read_text())
    except (OSError, ValueError):
      return {}

  def measures(self) -> dict[str, Measured]:
    """Returns what was measured of the run; {} if it is not judged."""
    content = read_judged(self.judged)
    return {name: Measured.of_json(x) for name, x in content.get("measures", {}).items()}

  def _noted(self) -> dict[str, Any]:
    return self._record.runs.get(self.run.name, {})

  def _is_trained(self) -> bool:
    done = self._noted().get("trained_steps") == self.steps
    return done and (self.model_dir / "metrics.jsonl").exists()

  def _is_judged(self) -> bool:
    content = read_judged(self.judged)
    return content.get("step") == self.steps and content.get("asked") == asked(self._comparison)

  def _training(self) -> list[str]:
    period = -(-self._all_steps // _EVALUATIONS)
    planned: dict[str, Any] = {
      "TRAIN_STEPS": self.steps,
      "EVAL_PERIOD": period,
      "SAVE_PERIOD": period,
      "LOG_PERIOD": max(1, self._all_steps // _RECORDS),
      "RANDOM_SEED": self.run.seed,
      "MODEL_DIR": str(self.model_dir),
    }
    if self.steps < self._all_steps:
      facts = self._record.content["plan"]["candidates"][self.run.candidate]
      if facts["schedule_has_steps"]:
        planned["SCHEDULE_STEPS"] = self._all_steps
    own = arguments.of_run(self._given, self._comparison, self.run.candidate, planned)
    return own.as_arguments()

  def _judging(self) -> list[str]:
    settings = self._comparison
    found = [
      str(self.model_dir),
      f"--passages={self._folder / 'passages.jsonl'}",
      f"--output={self.judged}",
      f"--passage_count={settings.passages}",
      f"--passage_bytes={settings.passage_bytes}",
      f"--seed={self.run.seed}",
    ]
    if settings.pairs_file:
      found.append(f"--pairs_file={settings.pairs_file}")
    if settings.classification is not None:
      found += [f"--classification={entry}" for entry in settings.classification]
      found.append(f"--classification_steps={settings.classification_steps}")
    # Those of the command line: labelled text may be found through them.
    return found + dataclasses.replace(self._given, gin_files=(), bindings=()).as_arguments()


def asked(comparison: Comparison) -> dict[str, Any]:
  """Returns the settings that only judges read, as a file of judged/ holds them."""
  wanted = comparison.classification is not None
  return {
    "pairs_file": comparison.pairs_file,
    "classification": list(comparison.classification or ()),
    "classification_steps": comparison.classification_steps if wanted else None,
  }


def read_judged(path: Path) -> Mapping[str, Any]:
  """Returns the content of a file of judged/; {} if there is none."""
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):
    return {}


def read_metrics(model_dir: Path) -> list[dict[str, Any]]:
  """Returns the records of MODEL_DIR/metrics.jsonl."""
  with (model_dir / "metrics.jsonl").open() as lines:
    return [json.loads(line) for line in lines if line.endswith("\n")]
