"""The accuracy of fine-tuning from a pre-trained checkpoint, and from nothing, at equal steps.

The task is finetune_python_stdlib.gin: which of ten packages of the standard library eight lines of
code come from. A tiny encoder is pre-trained with masked LM on the library without the files that
the task holds out, then fine-tuned on the task with three seeds, beside the same model from random
parameters.
"""

import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..configuration import reader

SEEDS = (0, 1, 2)
STEPS, PERIOD = 300, 50
COLUMNS = {str(step): (f"step {step}", ".1%") for step in range(PERIOD, STEPS + 1, PERIOD)}
_KINDS = ("from nothing", "pre-trained")
LABELS = tuple(
  f"{kind}, {which}" for kind in _KINDS for which in (*map("seed {}".format, SEEDS), "mean")
)
_PRETRAINING_STEPS = 3000
_GROUP = "validation accuracy, {} masked-LM steps before"

# 640,000 parameters, most of them in the embedding.
_MODEL = """
from __gin__ import dynamic_registration
from t5x_style.models import config
from t5x_style.data import corpora
config.TransformerConfig:
  emb_dim = 64
  num_heads = 2
  head_dim = 32
  mlp_dim = 256
  num_encoder_layers = 2
SCAN_LAYERS = False
"""
_PRETRAINING = """\
corpora.PythonStdlib.validation_percent = 20
TASK_FEATURE_LENGTHS = {"inputs": 128}
BATCH_SIZE = 32
PEAK_LEARNING_RATE = 0.003
WARMUP_STEPS = 100
SHUFFLE_BUFFER_SIZE = 8192
"""


def measure(
  pretraining_steps: int = _PRETRAINING_STEPS,
  steps: int = STEPS,
  seeds: Sequence[int] = SEEDS,
  period: int = PERIOD,
) -> Iterator[dict[str, Any]]:
  """Yields a row of accuracies by step for each kind of start and each seed, then their mean."""
  with tempfile.TemporaryDirectory() as folder:
    before = f"{folder}/pretrained"
    _pretrain(before, pretraining_steps)
    for kind, path in zip(_KINDS, (None, before), strict=True):
      curves = []
      for seed in seeds:
        bindings = [
          f"INITIAL_CHECKPOINT_PATH = {path!r}",
          f"RANDOM_SEED = {seed}",
          f"TRAIN_STEPS = {steps}",
          f"EVAL_PERIOD = {period}",
          f"SAVE_PERIOD = {steps}",
        ]
        model_dir = f"{folder}/{kind} {seed}"
        _train(["finetune_python_stdlib.gin"], bindings, model_dir)
        curves.append(_accuracies(Path(model_dir)))
        yield _row(kind, f"seed {seed}", curves[-1], pretraining_steps)
      mean = {step: statistics.mean(x[step] for x in curves) for step in curves[0]}
      yield _row(kind, "mean", mean, pretraining_steps)


def _row(kind: str, which: str, curve: dict[str, float], steps: int) -> dict[str, Any]:
  return {"group": _GROUP.format(f"{steps:,}"), "label": f"{kind}, {which}", **curve}


def _pretrain(model_dir: str, steps: int) -> None:
  files = ["runs/pretrain.gin", "models/encoder_only_mini.gin", "data/python_stdlib.gin"]
  bindings = [
    *_PRETRAINING.splitlines(),
    f"TRAIN_STEPS = {steps}",
    f"EVAL_PERIOD = {steps}",
    f"SAVE_PERIOD = {steps}",
  ]
  _train([*files, "objectives/masked_lm.gin"], bindings, model_dir)


def _train(files: Sequence[str], bindings: Sequence[str], model_dir: str) -> None:
  """Trains as launch.train does, and prints nothing."""
  from t5x_style.checkpoints import restoring
  from t5x_style.reporting import reporter, terminal
  from t5x_style.training import loop, setup, train_config

  with tempfile.NamedTemporaryFile("w", suffix=".gin") as model:
    model.write(f"# The model of the comparison.\n{_MODEL}")
    model.flush()
    settings = reader.read([*files, model.name], [*bindings, f"MODEL_DIR = {model_dir!r}"])
  prepared = setup.prepare(settings.build(train_config.TrainConfig))
  job = restoring.open_run(prepared)
  loop.train(job, reporter.RunReporter(prepared, 0, terminal.Terminal(enabled=False)))


def _accuracies(model_dir: Path) -> dict[str, float]:
  """Returns {step: validation accuracy} of a run."""
  records = map(json.loads, (model_dir / "metrics.jsonl").read_text().splitlines())
  return {str(x["step"]): x["accuracy"] for x in records if x["split"] == "validation"}
