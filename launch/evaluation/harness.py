"""Tasks of lm-evaluation-harness, on decoder-only and encoder-decoder models."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from t5x_style.errors import UserError
from t5x_style.trained.evaluation_harness import harness_model

from . import trained_model

FLAGS = ("step", "include_path", "num_fewshot", "examples", "mesh", "json")
WORDS = ("MODEL", "TASK...")


def run(values: Any, words: Sequence[str]) -> int:
  path, tasks = words[0], list(words[1:])
  model = harness_model(trained_model.load(path, values))
  with contextlib.redirect_stdout(sys.stderr):  # The harness prints progress, too.
    found = _evaluated(model, tasks, values)
  if values.json:
    shown = {key: found[key] for key in ("results", "n-shot", "n-samples", "versions")}
    print(json.dumps({"model": path, **shown}, default=str))
  else:
    from lm_eval.utils import make_table

    print(path, make_table(found), sep="\n\n")
  return 0


def _evaluated(model: Any, tasks: Sequence[str], values: Any) -> dict[str, Any]:
  """Returns what lm_eval.simple_evaluate returns.

  Raises:
    UserError: a task is unknown.
  """
  import lm_eval
  from lm_eval.tasks import TaskManager

  manager = TaskManager(include_path=values.include_path)
  unknown = [task for task in tasks if not manager.match_tasks([task])]
  if unknown:
    raise UserError(
      f"lm-evaluation-harness has no task {unknown[0]!r}; `lm-eval ls tasks` lists them, and "
      "--include_path=FOLDER adds those of your own YAML files."
    )
  return lm_eval.simple_evaluate(
    model=model,
    tasks=list(tasks),
    task_manager=manager,
    num_fewshot=values.num_fewshot,
    limit=values.examples,
    log_samples=False,
  )
