"""Which settings may change between two starts of a run, and which may not.

FIXED and MAY_CHANGE together name every field of TrainConfig. A checkpoint holds the identity of
its run, which a run that resumes must share, and the settings that may change: what changed is
shown when the run resumes.

Not compared at all: MODEL_DIR, which may be moved, and the place of the corpus and of the
vocabulary's file. Of a SeqIO task of the user's own only the name, the vocabulary and the lengths
are compared, not its code.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.models.config import fields_about
from t5x_style.partitioning import Partitioner
from t5x_style.training.dataset import Dataset
from t5x_style.training.schedules import Schedule
from t5x_style.training.state import TrainState, named_leaves
from t5x_style.training.train_config import TrainConfig

# Another value makes another run, which is refused.
FIXED = {
  "model": "all but `remat` and `attention`, which change only speed and memory",
  "dataset": "the texts, vocabulary, objective, lengths, packing, streams and shuffling",
  "batch_size": "the place in the data is between two batches",
  "optimizer": "its kind, and what its moments look like; other hyperparameters may change",
  "loss": "the losses of one run can be compared",
  "seed": "it decides the order of the data and the noise",
}
# These may change. The value is the name under which a change is shown, "" if it is not.
MAY_CHANGE = {
  "schedule": "",  # Its learning rates are compared.
  "model_dir": "",
  "train_steps": "TRAIN_STEPS",
  "eval_period": "EVAL_PERIOD",
  "eval_batches": "EVAL_BATCHES",
  "save_period": "SAVE_PERIOD",
  "log_period": "LOG_PERIOD",
  "keep_checkpoints": "KEEP_CHECKPOINTS",
  "keep_best_checkpoints": "KEEP_BEST_CHECKPOINTS",
  "best_metric": "BEST_METRIC",
  "max_failed_saves": "MAX_FAILED_SAVES",
  "verify_checkpoints": "VERIFY_CHECKPOINTS",
  "num_microbatches": "NUM_MICROBATCHES",  # It changes rounding, and the masks of dropout.
  "clip_gradient_norm": "CLIP_GRADIENT_NORM",
  "layer_decay": "LAYER_DECAY",
  "max_skipped_steps": "MAX_SKIPPED_STEPS",
  "spike_sigmas": "SPIKE_SIGMAS",
  "roll_back": "ROLL_BACK",
  "mesh_shape": "",  # The mesh is compared. So may the number of processes; both change rounding.
  "dcn_mesh_shape": "DCN_MESH_SHAPE",
  "sharding_rules": "LOGICAL_AXIS_RULES",
  "initial_checkpoint_path": "INITIAL_CHECKPOINT_PATH",  # Only a new run reads it.
  "initial_checkpoint_adapt": "INITIAL_CHECKPOINT_ADAPT",  # The same.
  "profile_steps": "PROFILE_STEPS",
  "hang_minutes": "HANG_MINUTES",
  "deterministic": "DETERMINISTIC",  # It changes rounding.
  "stages": "",  # Those that have begun are part of the identity; later ones may change.
}
_NOT_READ = " (not read: the run resumes from its own checkpoint)"
_REMARKS = dict.fromkeys(("INITIAL_CHECKPOINT_PATH", "INITIAL_CHECKPOINT_ADAPT"), _NOT_READ)
# A schedule is recorded at the next update, and at this many more up to the last one.
_RATES = 16
# Two rates are different if they differ by more than rounding does between kinds of devices.
_RELATIVE = 1e-5


def identity(config: TrainConfig, dataset: Dataset) -> dict[str, Any]:
  """Returns what must be equal for a run to resume from a checkpoint: JSON of what is FIXED."""
  model = dataclasses.asdict(config.model)
  for name in fields_about("compilation"):
    del model[name]
  return {
    "model": model,
    "data": dataset.identity(),
    "optimizer": _name(config.optimizer),
    "loss": dataclasses.asdict(config.loss),
    "seed": config.seed,
  }


def layout(state: TrainState) -> str:
  """Returns a checksum of the names and shapes of parameters and moments: those of a checkpoint."""
  leaves = named_leaves({"params": state.params, "opt_state": state.opt_state})
  text = "\n".join(f"{name} {x.shape}" for name, x in sorted(leaves.items()))
  return hashlib.sha256(text.encode()).hexdigest()


def settings(config: TrainConfig, partitioner: Partitioner, updates: int) -> dict[str, Any]:
  """Returns JSON of the settings that may change.

  Args:
    updates: how many the optimizer has made; the learning rates from there on are recorded.
  """
  values = {shown: getattr(config, name) for name, shown in MAY_CHANGE.items() if shown}
  values |= {name.upper(): getattr(config.model, name) for name in fields_about("compilation")}
  optimizer = _name(config.optimizer)
  hyperparameters = getattr(config.optimizer(config.schedule), "hyperparameters", {})
  values |= {f"{optimizer}.{name}": value for name, value in hyperparameters.items()}
  devices = partitioner.mesh.devices
  values |= {
    "mesh": {axis: size for axis, size in partitioner.mesh.shape.items() if size > 1},
    "devices": f"{devices.size} x {devices.flat[0].device_kind}",
    "processes": jax.process_count(),
    "jax": jax.__version__,
  }
  last = max(config.train_steps - 1, updates)
  counts = sorted({int(x) for x in np.linspace(updates, last, _RATES + 1)})
  rates = [[count, _rate(config.schedule, count)] for count in counts]
  return json.loads(json.dumps({"values": values, "learning_rates": rates}))


def changes(
  before: Mapping[str, Any], config: TrainConfig, partitioner: Partitioner, step: int
) -> list[str]:
  """Returns a line for each setting that changed, and for the learning rate if it did.

  Args:
    before: what `settings` returned when the checkpoint was saved; {} for an older checkpoint.
    config, partitioner: of the run that resumes.
    step: of the checkpoint.
  """
  if not before:
    return []
  old, rates = before["values"], before["learning_rates"]
  now = settings(config, partitioner, 0)["values"]
  lines = [
    f"{name}: {old[name]} -> {value}{_REMARKS.get(name, '')}"
    for name, value in now.items()
    if name in old and old[name] != value
  ]
  first = rates[0][0]  # Fewer than `step` where steps were skipped.
  differing = []
  for count, rate in rates:
    of_step, new = step + count - first + 1, _rate(config.schedule, count)
    if of_step <= config.train_steps and not math.isclose(rate, new, rel_tol=_RELATIVE):
      differing.append((of_step, rate, new))
  # The first step that differs, and the last one, which shows where the schedule ends.
  for of_step, rate, new in differing[:1] + differing[1:][-1:]:
    lines.append(f"the learning rate of step {of_step:,} is {new:.6g}; before it was {rate:.6g}")
  return lines


def _name(function: Callable[..., Any]) -> str:
  """Returns the name of an optimizer's function, also if some of its arguments are bound."""
  function = getattr(function, "func", function)
  return getattr(function, "__name__", type(function).__name__)


def _rate(schedule: Schedule, step: int) -> float:
  return float(schedule(jnp.int32(step)))
