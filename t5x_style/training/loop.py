"""The training loop: from a prepared run to a trained checkpoint."""

import contextlib
import dataclasses
import difflib
import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils

from t5x_style.checkpoints.manager import Checkpoints, find_step
from t5x_style.checkpoints.warm_start import Reader, check_initial, initial_params
from t5x_style.errors import UserError, first_line, shortened
from t5x_style.inference.samples import sample
from t5x_style.partitioning import hardware
from t5x_style.reporting.profiling import Profiler
from t5x_style.reporting.terminal import Terminal, duration, speed
from t5x_style.reporting.writers import MetricWriters
from t5x_style.training import finite
from t5x_style.training.dataset import Batch, BatchIterator
from t5x_style.training.evaluation import make_evaluate, unigram_entropy
from t5x_style.training.metrics import Meter
from t5x_style.training.preemption import StopSignal
from t5x_style.training.setup import Prepared
from t5x_style.training.state import TrainState
from t5x_style.training.step import make_train_step

# Parameters of several processes are gathered in the first one to write a sample up to this size.
_GATHERED_BYTES = 2**30


@dataclasses.dataclass
class Job:
  """A prepared run with its state and iterators, new or restored; nothing is compiled yet."""

  prepared: Prepared
  checkpoints: Checkpoints
  writers: MetricWriters
  iterator: BatchIterator
  eval_batches: list[Batch]
  state: TrainState | None  # None once training has taken it: its arrays are given to the steps
  progress: dict[str, Any]


class Result(NamedTuple):
  """How a run ended. The records are the last ones; losses in nats per target token."""

  state: TrainState
  first_step: int  # where it resumed, 0 for a new run
  validation: dict[str, float]
  train: dict[str, float]
  baseline: float  # entropy of the held-out target tokens
  stopped_by: str | None  # the signal that ended it early


def open_run(prepared: Prepared, readers: Sequence[Reader] = ()) -> Job:
  """Reads the newest checkpoint of MODEL_DIR, or makes a new state.

  Args:
    readers: of the foreign checkpoints that INITIAL_CHECKPOINT_PATH may name.

  Raises:
    UserError: MODEL_DIR holds another run.
  """
  config = prepared.config
  with contextlib.ExitStack() as opened:  # Closed again where the run cannot start.
    checkpoints = opened.enter_context(
      Checkpoints(
        prepared.model_dir / "checkpoints", config.keep_checkpoints, config.keep_best_checkpoints
      )
    )
    iterator = prepared.dataset.train()
    state, progress = start(prepared, checkpoints, iterator, readers)
    eval_batches = list(prepared.dataset.evaluation(config.eval_batches))
    writers = MetricWriters(prepared.model_dir, int(state.step))
    opened.pop_all()
  return Job(prepared, checkpoints, writers, iterator, eval_batches, state, progress)


def train(job: Job, terminal: Terminal) -> Result:
  """Trains to the end, or to the first Ctrl-C, after which everything is saved.

  The state is taken out of `job`, as the memory of its arrays is given to the steps.

  Raises:
    FloatingPointError: the loss, a gradient or the state is not finite. Nothing of it is saved.
  """
  prepared, config = job.prepared, job.prepared.config
  assert job.state is not None, "A job trains once: open_run makes another from its checkpoint."
  state, job.state = job.state, None
  first = int(state.step)
  baseline = unigram_entropy(job.eval_batches, prepared.loss.side)
  terminal.started(first, baseline)
  if first < config.train_steps:
    step_fn = compile_step(prepared)
    not_finite = prepared.find_not_finite
  evaluate = make_evaluate(prepared)
  terminal.compiled()
  last: dict[str, dict[str, float]] = {"train": {}, "validation": {}}

  def record(split, step, values):
    last[split] = values
    job.writers.write(step, split, values)
    terminal.record(step, split, values)

  def check(step, values):
    finite.check_values(step, values, job.checkpoints.latest())

  meter = Meter(
    config.log_period,
    functools.partial(record, "train"),
    check=check,
    component_names=prepared.dataset.component_names,
    step_flops=prepared.step_flops,
    peak_flops=peak_flops(prepared),
    progress=job.progress,
  )

  def validate(step):
    values = evaluate(state.params, job.eval_batches)
    check(step, {"validation loss": values["loss"]})
    record("validation", step, values | {"seconds": meter.seconds})
    return values["loss"]

  def save(step, validation_loss, evaluation_due):
    finite.check_state(step, not_finite(state), job.checkpoints.latest())
    if validation_loss is None:  # One batch tells whether the parameters are still of use.
      values = evaluate(state.params, job.eval_batches[:1])
      check(step, {"validation loss": values["loss"]})
    job.checkpoints.save(
      state,
      job.iterator.get_state(),
      identity=prepared.identity(),
      progress=meter.progress() | {"evaluation_due": evaluation_due},
      validation_loss=validation_loss,
    )

  stopped_by = None
  profiler = Profiler(config.profile_steps, prepared.model_dir)
  progress = terminal.progress(first, config.train_steps)
  with StopSignal() as stop, job.checkpoints, job.writers, profiler, progress:
    if job.progress.get("evaluation_due"):
      validate(first)
    for step in range(first + 1, config.train_steps + 1):
      profiler.before(step)
      with meter.waiting():
        batch = next(job.iterator)
      state, sums = step_fn(state, prepared.partitioner.put(batch))
      meter.add(step, sums)
      terminal.step(step)
      if profile := profiler.after(step, sums, step_fn):
        terminal.note(profile)
      stopped_by = stop.at(step)
      loss, due = None, step % config.eval_period == 0 or step == config.train_steps
      # A machine that is taken away leaves time to save; the run evaluates when it resumes.
      if due and not stopped_by:
        with meter.paused():
          loss = validate(step)
      if step % config.save_period == 0 or step == config.train_steps or stopped_by:
        with meter.paused():
          save(step, loss, evaluation_due=due and loss is None)
      if stopped_by:
        break
    meter.drain()
    if first >= config.train_steps and not last["validation"]:  # Say how good the finished run is.
      last["validation"] = evaluate(state.params, job.eval_batches)
  return Result(state, first, last["validation"], last["train"], baseline, stopped_by)


def start(
  prepared: Prepared,
  checkpoints: Checkpoints,
  iterator: BatchIterator,
  readers: Sequence[Reader] = (),
) -> tuple[TrainState, dict[str, Any]]:
  """Restores the newest checkpoint and the iterator's place, or makes a new state.

  Raises:
    UserError: the newest checkpoint is of another run, is damaged, or is not finite; or
      INITIAL_CHECKPOINT_PATH does not fit this model.
  """
  step = checkpoints.latest()
  if step is not None:
    return _restored(prepared, checkpoints, iterator, step)
  state = prepared.init(prepared.config.seed)
  if path := prepared.config.initial_checkpoint_path:
    params = initial_params(path, prepared.config.model, prepared.abstract.params, readers)
    if names := finite.make_find_not_finite(prepared.abstract.params)(params):
      raise UserError(
        f"INITIAL_CHECKPOINT_PATH = {path!r} holds numbers that are not finite, in "
        f"{finite.listed(names)}; give an earlier checkpoint."
      )
    state = state.replace(params=params)
  return state, {}


def _restored(prepared, checkpoints, iterator, step):
  with _damage_is_named(prepared, checkpoints, step):
    identity = checkpoints.identity(step)
  check_same_run(prepared, identity)
  with _damage_is_named(prepared, checkpoints, step):
    restored = checkpoints.restore(step, prepared.abstract)
    iterator.set_state(restored.streams)
    if names := prepared.find_not_finite(restored.state):
      raise FloatingPointError(f"it holds numbers that are not finite, in {finite.listed(names)}.")
  return restored.state, restored.progress


@contextlib.contextmanager
def _damage_is_named(prepared: Prepared, checkpoints: Checkpoints, step: int) -> Iterator[None]:
  """Whatever fails when a checkpoint is read says which one it is, and what to do."""
  try:
    yield
  except Exception as error:
    folder = prepared.model_dir / "checkpoints"
    older = [other for other in checkpoints.steps() if other != step]
    then = f"resume from step {older[-1]}" if older else "start from the beginning"
    raise UserError(
      f"The newest checkpoint, {str(folder / str(step))!r}, cannot be used: "
      f"{first_line(error)}\nMove that folder away (out of {str(folder)!r}) to {then}."
    ) from error


def check_start(prepared: Prepared, readers: Sequence[Reader] = ()) -> None:
  """Refuses what `start` would refuse to begin with, having read no more than names and shapes."""
  path = prepared.config.initial_checkpoint_path
  if path and find_step(prepared.model_dir) is None:
    check_initial(path, prepared.config.model, prepared.abstract.params, readers)


def compile_step(prepared: Prepared) -> jax.stages.Compiled:
  """The training step, compiled ahead of its first batch; the old state's memory is given up."""
  config = prepared.config
  step = make_train_step(
    prepared.loss, prepared.optimizer, config.schedule, config.num_microbatches
  )
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
  peak = hardware.peak_flops(devices.flat[0])
  return peak * devices.size if peak else None


def check_same_run(prepared: Prepared, saved: dict[str, Any]) -> None:
  """Raises UserError, showing what differs, unless the checkpoint is of the very same run."""
  present = json.loads(json.dumps(prepared.identity()))
  # A checkpoint that is older than an option was made with what is the default today.
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
    + "\nSet another MODEL_DIR, or the settings that the "
    "run began with. To start from its parameters alone, set INITIAL_CHECKPOINT_PATH."
  )


def closing_facts(job: Job, result: Result, command: Sequence[str]) -> dict[str, str]:
  """The title of the summary, how fast it was, where things are, how to resume.

  Args:
    command: the words that started the run, quoted for a shell where they need it.
  """
  config, step = job.prepared.config, int(result.state.step)
  title = f"Trained {step:,} steps."
  if result.stopped_by:
    title = (
      f"Stopped by {result.stopped_by} at step {step:,} of {config.train_steps:,}; all is saved."
    )
  elif result.first_step >= config.train_steps:
    title = f"Nothing to do: MODEL_DIR is at step {step:,} of {config.train_steps:,} already."
  facts = {"title": title}
  if "tokens_per_second" in result.train:
    facts["speed"] = speed(result.train)
  if "seconds" in result.validation or "seconds" in result.train:
    facts["time"] = duration(max(x.get("seconds", 0) for x in (result.train, result.validation)))
  if skipped := job.iterator.skipped():
    facts["text"] = skipped
  facts["checkpoints"] = str(job.prepared.model_dir / "checkpoints" / str(step))
  facts["metrics"] = str(job.prepared.model_dir / "metrics.jsonl")
  if result.stopped_by:
    facts["resume with"] = " ".join(command)
  elif step >= config.train_steps:
    kept = [word for word in command if not word.startswith("--gin.TRAIN_STEPS=")]
    facts["train longer"] = " ".join([*kept, f"--gin.TRAIN_STEPS={2 * config.train_steps}"])
  return facts


def closing_sample(job: Job, result: Result) -> dict[str, str]:
  """Text of the trained model on a held-out example; only the first process writes it.

  Empty where the model spans several processes and is too large to be gathered in one.
  """
  params = result.state.params
  if jax.process_count() == 1:
    with job.prepared.partitioner.context():
      return _sample(job, params)
  if sum(x.nbytes for x in jax.tree.leaves(params)) > _GATHERED_BYTES:
    return {}
  params = multihost_utils.process_allgather(params, tiled=True)
  written = {}
  if jax.process_index() == 0:
    with jax.default_device(jax.local_devices()[0]):
      written = _sample(job, params)
  multihost_utils.sync_global_devices("closing sample")
  return written


def _sample(job: Job, params: Any) -> dict[str, str]:
  """A sample that fails says why there is none: the run it closes is trained and saved."""
  dataset = job.prepared.dataset
  try:
    return sample(
      job.prepared.loss.model, params, job.eval_batches[0], dataset.decode, dataset.special_ids
    )
  except Exception as error:
    return {"no sample could be made": f"{type(error).__name__}: {error}"}
