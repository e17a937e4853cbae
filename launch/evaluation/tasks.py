"""SeqIO tasks with their metric functions, by generation and by likelihood."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import seqio
from seqio.metrics import ModelOutputType

import t5x_style
from t5x_style.checkpoints import inventory
from t5x_style.data import iterator
from t5x_style.data import tasks as data_tasks
from t5x_style.errors import UserError
from t5x_style.interop.huggingface.path_prefix import PREFIX
from t5x_style.trained.loaded_model import LoadedModel

from ..checkpoints.output import for_json, table
from ..process import whole_files
from ..process.errors import ConfigurationError
from . import chosen_steps, settings_text
from .task_outputs import Example, TaskModel, Written

FLAGS = (
  *("step", "all_steps", "mesh", "json", "output", "tfds_data_dir", "batch_size"),
  *("mixture_or_task", "module", "split", "examples", "lengths", "max_new_tokens"),
)
WORDS = ("MODEL",)

_KNOWN = (
  ModelOutputType.PREDICTION,
  ModelOutputType.SCORE,
  ModelOutputType.PREDICTION_WITH_AUX,
)


def run(values: Any, words: Sequence[str]) -> int:
  (model,) = words
  mesh = settings_text.mapping("mesh", values.mesh, '{"data": 2}')
  if values.output and not (place := Path(os.path.expanduser(values.output)).parent).is_dir():
    raise ConfigurationError(f"--output={values.output}: there is no folder {str(place)!r}.")
  chosen = [model]
  if not model.startswith(PREFIX):
    chosen = list(map(str, chosen_steps.chosen(inventory.checkpoints_folder(model), values)))
  evaluated = _open_tasks(values)
  results: list[dict[str, Any]] = []
  lines: list[dict[str, Any]] = []
  for path in chosen:
    try:
      trained = t5x_style.load(path, mesh_shape=mesh)
    except UserError as error:
      if len(chosen) == 1:
        raise
      results.append({"step": Path(path).name, "problem": str(error)})
      continue
    found = {}
    for task in evaluated:
      found[task.name], of_task = task.evaluate(trained)
      lines += [{"step": trained.step, "task": task.name, **line} for line in of_task]
    results.append({"step": trained.step, "tasks": found})
  if values.output:
    _write(values.output, lines)
  if values.json:
    print(json.dumps({"model": model, "split": values.split, "steps": results}))
  else:
    print(f"{model}\nsplit {values.split}\n\n{_text(results)}")
  return int(any("problem" in result for result in results))


def _open_tasks(values: Any) -> list[_Task]:
  """Returns the tasks of --mixture_or_task, of which a mixture has several."""
  if not values.mixture_or_task:
    raise ConfigurationError(
      "tasks needs --mixture_or_task=NAME, and --module=MODULE, which registers it with SeqIO."
    )
  lengths = settings_text.mapping("lengths", values.lengths, '{"inputs": 512, "targets": 64}')
  try:
    provider = data_tasks.lookup(values.mixture_or_task, values.module)
  except UserError as error:
    text = str(error).replace("MIXTURE_OR_TASK_NAME = ", "--mixture_or_task=")
    raise ConfigurationError(text.replace("MIXTURE_OR_TASK_MODULE", "--module")) from error
  return [_Task(task, lengths, values) for task, _ in data_tasks.parts(provider)]


class _AsTheyAre(seqio.PassThroughFeatureConverter):
  """Examples as a task yields them: TaskModel makes rows of them."""

  TASK_FEATURES: ClassVar[Mapping[str, Any]] = {}
  pack = False


class _Task:
  """A task with its examples, which are read once for all checkpoints."""

  def __init__(self, task: seqio.Task, lengths: Mapping[str, int] | None, values: Any):
    self.name = task.name
    self._vocabulary = task.output_features["targets"].vocabulary
    self._values = values
    self._types = {metric.model_output_type for metric in task.metric_objs}
    _check_task(task, values.split, self._types)
    try:
      self._evaluator = seqio.Evaluator(
        task.name,
        _AsTheyAre(),
        eval_split=values.split,
        sequence_length=lengths,
        num_examples=values.examples,
        async_compute_metrics=False,
      )
    except ValueError as error:
      if "sequence_length" not in str(error):
        raise
      raise ConfigurationError(
        f'The task {task.name} needs the lengths of its features: --lengths=\'{{"inputs": 512, '
        '"targets": 64}\'.'
      ) from error
    dataset = self._evaluator.cached_task_datasets[task.name]
    self._examples: list[Example] = list(iterator.arrays(dataset))
    if not self._examples:
      raise ConfigurationError(f"The split {values.split!r} of {task.name} has no example.")

  def evaluate(self, trained: LoadedModel) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns {"examples": how many, "metrics": {name: value}}, and a line for each example."""
    model = TaskModel(trained, self._vocabulary, self._values.batch_size)
    written: list[Written] = []
    scores: list[float] = []
    if self._types & {ModelOutputType.PREDICTION, ModelOutputType.PREDICTION_WITH_AUX}:
      longest = max(len(example["targets"]) for example in self._examples)
      written = model.predict(self._examples, self._values.max_new_tokens or max(longest, 1))
    if ModelOutputType.SCORE in self._types:
      scores = model.score(self._examples)
    tokens = list(enumerate(_padded([x.tokens for x in written])))
    aux = {"scores": [x.log_probability for x in written]}
    try:
      metrics, _ = self._evaluator.evaluate(
        compute_metrics=True,
        predict_fn=lambda _: tokens,
        score_fn=lambda _: list(enumerate(scores)),
        predict_with_aux_fn=lambda _: (tokens, aux),
      )
    except ValueError as error:
      raise ConfigurationError(f"A metric function of {self.name} failed: {error}") from error
    found = {name: _plain(value) for name, value in metrics.result()[self.name].items()}
    lines = [self._line(*each) for each in itertools.zip_longest(self._examples, written, scores)]
    return {"examples": len(self._examples), "metrics": found}, lines

  def _line(self, example: Example, written: Written | None, score: float | None) -> dict[str, Any]:
    line: dict[str, Any] = {
      name: self._text(example, name) for name in ("inputs", "targets") if name in example
    }
    if written is not None:
      line["prediction"] = self._vocabulary.decode(written.tokens)
      line["prediction_log_probability"] = written.log_probability
    if score is not None:
      line["targets_log_probability"] = score
    return line

  def _text(self, example: Example, feature: str) -> str:
    before = example.get(f"{feature}_pretokenized")
    if isinstance(before, bytes):
      return before.decode("utf-8", errors="replace")
    return self._vocabulary.decode(list(map(int, example[feature])))


def _check_task(task: seqio.Task, split: str, types: set[ModelOutputType]) -> None:
  """Raises ConfigurationError if a task has nothing to evaluate."""
  if split not in task.splits:
    raise ConfigurationError(
      f"{task.name} has no split {split!r}; it has {', '.join(task.splits)}: write --split=NAME."
    )
  if not types:
    raise ConfigurationError(
      f"{task.name} has no metric function; register it with metric_fns, of (targets, predictions) "
      "or (targets, scores)."
    )
  if types - {*_KNOWN}:
    raise ConfigurationError(
      f"{task.name} has a metric of {min(types - {*_KNOWN}).name}; there are only "
      f"{', '.join(kind.name for kind in _KNOWN)}."
    )


def _padded(rows: Sequence[Sequence[int]]) -> list[list[int]]:
  """Returns rows of one length, which SeqIO needs; the zeros at the end are padding."""
  longest = max(map(len, rows), default=0)
  return [[*row, *[0] * (longest - len(row))] for row in rows]


def _plain(value: Any) -> Any:
  """Returns a metric's value as JSON has it; None for a number that is not finite."""
  value = getattr(value, "value", value)
  if isinstance(value, np.ndarray | np.generic) or hasattr(value, "tolist"):
    value = np.asarray(value).tolist()
  if isinstance(value, float):
    return for_json(value)
  return value if isinstance(value, bool | int | str | list | dict | None) else str(value)


def _write(name: str, lines: Sequence[dict[str, Any]]) -> None:
  """Writes one JSON object per line; a file that was there stays until all of it is written."""
  path = Path(os.path.expanduser(name))
  text = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
  whole_files.write(path, text)


def _text(results: Sequence[dict[str, Any]]) -> str:
  rows = []
  for result in results:
    step = "-" if result["step"] is None else str(result["step"])
    if "problem" in result:
      rows.append([step, "-", "-", "-", "-", result["problem"]])
    for task, found in result.get("tasks", {}).items():
      for metric, value in found["metrics"].items():
        shown = f"{value:.4f}" if isinstance(value, float) else str(value)
        rows.append([step, task, f"{found['examples']:,}", metric, shown, ""])
  return table(["step", "task", "examples", "metric", "value", ""], rows)
