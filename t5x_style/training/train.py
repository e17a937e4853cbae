"""The training loop: from a prepared run to a trained checkpoint."""

import difflib
import json
from typing import Any, NamedTuple

import jax

from t5x_style.training import flops
from t5x_style.training.checkpoints import Checkpoints, restore_params
from t5x_style.training.dataset import BatchIterator
from t5x_style.training.evaluation import make_evaluate, unigram_entropy
from t5x_style.training.interruption import StopSignal
from t5x_style.training.meter import Meter, check_finite
from t5x_style.training.run import Prepared
from t5x_style.training.state import TrainState
from t5x_style.training.step import make_train_step
from t5x_style.training.terminal import Terminal
from t5x_style.training.writers import MetricWriters


class Result(NamedTuple):
  """How a run ended."""

  state: TrainState
  validation: dict[str, float]
  train: dict[str, float]
  baseline: float  # nats per token
  stopped_by: str | None  # the signal that ended it early


def train(prepared: Prepared, terminal: Terminal) -> Result:
  """Trains to the end, or to the first Ctrl-C; goes on from the newest checkpoint if there is one.

  Raises:
    ValueError: MODEL_DIR holds another run.
    FloatingPointError: the loss is no longer a number.
  """
  run = prepared.run
  checkpoints = Checkpoints(
    prepared.model_dir / "checkpoints", run.keep_checkpoints, run.keep_best_checkpoints
  )
  iterator = prepared.dataset.train()
  state, progress = start(prepared, checkpoints, iterator)
  first = int(state.step)
  eval_batches = list(prepared.dataset.evaluation(run.eval_batches))
  evaluate = make_evaluate(prepared)
  baseline = unigram_entropy(eval_batches, prepared.loss.side)
  terminal.started(first, baseline)
  step_fn = compile_step(prepared)
  terminal.compiled()
  writers = MetricWriters(prepared.model_dir, first)
  last = {"train": {}, "validation": {}}

  def record(split, step, values):
    last[split] = values
    writers.write(step, split, values)
    terminal.record(step, split, values)
    if split == "train":
      check_finite(step, values, checkpoints.latest())

  meter = Meter(
    run.log_period,
    lambda step, values: record("train", step, values),
    component_names=prepared.dataset.component_names,
    step_flops=prepared.step_flops,
    peak_flops=peak_flops(prepared),
    progress=progress,
  )

  def save():
    checkpoints.save(
      state,
      iterator.get_state(),
      identity=prepared.identity(),
      progress=meter.progress(),
      validation_loss=last["validation"].get("loss") if evaluated == step else None,
    )

  evaluated = None
  with StopSignal() as stop, writers, terminal.progress(first, run.train_steps):
    for step in range(first + 1, run.train_steps + 1):
      state, sums = step_fn(state, prepared.partitioner.put(next(iterator)))
      meter.add(step, sums)
      terminal.step(step)
      ends = step == run.train_steps or stop.name is not None
      if step % run.eval_period == 0 or step == run.train_steps:
        with meter.paused():
          record("validation", step, evaluate(state.params, eval_batches) | {"seconds": meter.seconds})
          evaluated = step
      if step % run.save_period == 0 or ends:
        with meter.paused():
          save()
      if ends:
        break
    meter.drain()
    if not last["validation"] and stop.name is None:  # Started again when there was nothing to do.
      last["validation"] = evaluate(state.params, eval_batches)
    checkpoints.wait()
    checkpoints.close()
  return Result(state, last["validation"], last["train"], baseline, stop.name)


def start(
  prepared: Prepared, checkpoints: Checkpoints, iterator: BatchIterator
) -> tuple[TrainState, dict[str, Any]]:
  """The state to begin with, and the iterator put in its place: restored, or new."""
  step = checkpoints.latest()
  if step is not None:
    check_same_run(prepared, checkpoints.identity(step))
    restored = checkpoints.restore(step, prepared.abstract)
    iterator.set_state(restored.streams)
    return restored.state, restored.progress
  state = prepared.init(prepared.run.seed)
  if prepared.run.initial_checkpoint_path:
    params = restore_params(prepared.run.initial_checkpoint_path, prepared.abstract.params)
    state = state.replace(params=params)
  return state, {}


def compile_step(prepared: Prepared) -> jax.stages.Compiled:
  """The training step, compiled ahead of its first batch; the old state's memory is given up."""
  run = prepared.run
  step = make_train_step(prepared.loss, prepared.optimizer, run.schedule, run.num_microbatches)
  jitted = jax.jit(
    step,
    donate_argnums=0,
    out_shardings=(prepared.shardings, prepared.partitioner.replicated()),
  )
  with prepared.partitioner.context():
    return jitted.lower(prepared.abstract, prepared.batch).compile()


def peak_flops(prepared: Prepared) -> float | None:
  """Peak bf16 FLOP/s of the whole mesh, None where it is not known."""
  devices = prepared.partitioner.mesh.devices
  peak = flops.device_peak(devices.flat[0])
  return peak * devices.size if peak else None


def check_same_run(prepared: Prepared, saved: dict[str, Any]) -> None:
  """Raises ValueError, showing what differs, unless the checkpoint is of the very same run."""
  present = json.loads(json.dumps(prepared.identity()))
  if present == saved:
    return
  before, now = (json.dumps(x, indent=1, sort_keys=True).splitlines() for x in (saved, present))
  lines = [
    f"  {line[0]} {line[1:].strip().rstrip(',')}"
    for line in difflib.unified_diff(before, now, n=0, lineterm="")
    if line[0] in "+-" and not line.startswith(("---", "+++"))
  ]
  raise ValueError(
    f"MODEL_DIR = {str(prepared.model_dir)!r} holds checkpoints of another run "
    "(- there, + here):\n" + "\n".join(lines) + "\nSet another MODEL_DIR, or the settings that the "
    "run began with. To start from its parameters alone, set INITIAL_CHECKPOINT_PATH."
  )
