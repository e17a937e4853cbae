"""The loss of fine-tuning from a pre-trained checkpoint, and from nothing, at equal steps.

Two tasks, with three seeds each. "names" is finetune_function_names.gin: an encoder-decoder says
what a function is called. "packages" is finetune_python_stdlib.gin: an encoder says which of ten
packages eight lines of code come from. The checkpoints are those of short runs, on the files of the
standard library that the tasks do not hold out.
"""

import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..configuration import reader

SEEDS = (0, 1, 2)
PERIOD = 100
_LONGEST = 400
COLUMNS = {
  **{f"loss {n}": (f"loss {n}", ".3f") for n in range(PERIOD, _LONGEST + 1, PERIOD)},
  "accuracy": ("accuracy", ".1%"),
}
_KINDS = ("from nothing", "pre-trained")
LABELS = tuple(
  f"{kind}, {which}" for kind in _KINDS for which in (*map("seed {}".format, SEEDS), "mean")
)


class Task(NamedTuple):
  """A task to fine-tune on, and the run before it.

  Attributes:
    title: of the table; {steps} is the length of the run before it.
    pretraining, pretraining_steps: the gin files of that run, and its steps.
    finetuning, steps: the gin file of the task, and its steps.
    settings: gin lines for both, such as the sizes of the model.
    pretraining_settings: gin lines of the run before it only.
  """

  title: str
  pretraining: Sequence[str]
  pretraining_steps: int
  finetuning: str
  steps: int
  settings: str = ""
  pretraining_settings: str = ""


# 640,000 parameters, most of them in the embedding.
_TINY_ENCODER = """
from __gin__ import dynamic_registration
from t5x_style.models import config
config.TransformerConfig:
  emb_dim = 64
  num_heads = 2
  head_dim = 32
  mlp_dim = 256
  num_encoder_layers = 2
SCAN_LAYERS = False
"""
_MASKED_LM = """
from __gin__ import dynamic_registration
from t5x_style.data import corpora
TASK_FEATURE_LENGTHS = {"inputs": 128}
BATCH_SIZE = 32
PEAK_LEARNING_RATE = 0.003
WARMUP_STEPS = 100
SHUFFLE_BUFFER_SIZE = 8192
"""
_HELD_OUT = "PythonStdlib.validation_percent = 20"
TASKS = {
  "names": Task(
    "names of functions, nats per token after {steps:,} steps of span corruption",
    ("quickstart.gin",),
    1600,
    "finetune_function_names.gin",
    400,
  ),
  "packages": Task(
    "ten packages, nats per label after {steps:,} steps of masked LM",
    (
      *("runs/pretrain.gin", "models/encoder_only_mini.gin"),
      *("data/python_stdlib.gin", "objectives/masked_lm.gin"),
    ),
    3000,
    "finetune_python_stdlib.gin",
    300,
    _TINY_ENCODER,
    _MASKED_LM,
  ),
}


def measure(
  tasks: Sequence[str] = tuple(TASKS),
  seeds: Sequence[int] = SEEDS,
  period: int = PERIOD,
  steps: int | None = None,
) -> Iterator[dict[str, Any]]:
  """Yields the held-out losses of each task, kind of start and seed, then the mean of the seeds.

  Args:
    tasks: names of TASKS.
    period: steps between two losses.
    steps: of all runs, in place of their own.
  """
  for task in map(TASKS.__getitem__, tasks):
    pretraining_steps, finetuning_steps = steps or task.pretraining_steps, steps or task.steps
    title = task.title.format(steps=pretraining_steps)
    with tempfile.TemporaryDirectory() as folder:
      before = f"{folder}/pretrained"
      settings = task.settings + task.pretraining_settings
      bindings = [_HELD_OUT, *_length(pretraining_steps, pretraining_steps)]
      _train(task.pretraining, settings, bindings, before)
      for kind, path in zip(_KINDS, (None, before), strict=True):
        found = []
        for seed in seeds:
          model_dir = f"{folder}/{kind} {seed}"
          bindings = [
            f"INITIAL_CHECKPOINT_PATH = {path!r}",
            f"RANDOM_SEED = {seed}",
            *_length(finetuning_steps, period),
          ]
          _train([task.finetuning], task.settings, bindings, model_dir)
          found.append(_figures(Path(model_dir)))
          yield {"group": title, "label": f"{kind}, seed {seed}", **found[-1]}
        mean = {name: statistics.mean(x[name] for x in found) for name in found[0]}
        yield {"group": title, "label": f"{kind}, mean", **mean}


def _length(steps: int, period: int) -> list[str]:
  return [f"TRAIN_STEPS = {steps}", f"EVAL_PERIOD = {period}", f"SAVE_PERIOD = {steps}"]


def _train(files: Sequence[str], settings: str, bindings: Sequence[str], model_dir: str) -> None:
  """Trains as launch.train does, and prints nothing."""
  from t5x_style.checkpoints import restoring
  from t5x_style.reporting import reporter, terminal
  from t5x_style.training import loop, setup, train_config

  with tempfile.NamedTemporaryFile("w", suffix=".gin") as more:
    more.write(f"# The settings of the comparison.\n{settings}")
    more.flush()
    configuration = reader.read([*files, more.name], [*bindings, f"MODEL_DIR = {model_dir!r}"])
  prepared = setup.prepare(configuration.build(train_config.TrainConfig))
  job = restoring.open_run(prepared)
  loop.train(job, reporter.RunReporter(prepared, 0, terminal.Terminal(enabled=False)))


def _figures(model_dir: Path) -> dict[str, float]:
  """Returns the held-out losses of a run by step, and the accuracy at its end."""
  records = [json.loads(x) for x in (model_dir / "metrics.jsonl").read_text().splitlines()]
  held_out = [x for x in records if x["split"] == "validation" and x["step"]]
  losses = {f"loss {x['step']}": x["loss"] for x in held_out}
  return {**losses, "accuracy": held_out[-1]["accuracy"]}
