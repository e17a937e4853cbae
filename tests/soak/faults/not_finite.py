"""Losses that are not finite, or huge: no such step changes the model, and none is ever saved."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from launch.process.exit_codes import ExitCode
from tests.soak import comparison, references
from tests.soak.outcomes import Failed, Fault, Outcome
from tests.soak.trial import STEPS, Trial

# The learning rate does not depend on the number of steps, nor the noise on the step, so that a
# run without the harmful batches takes the same steps otherwise.
_SETTINGS = (
  f"--gin_file={references.HARMFUL}",
  "--gin_file=runs/schedules/constant.gin",
  "--gin.DROPOUT_RATE=0.0",
)
_FIRST = 30  # the first harmful batch; spikes are known after a few steps


def _one_batch(harm: str, *settings: str) -> Callable[[Trial], Outcome]:
  """Returns a fault: one harmful batch, and a SIGKILL at another moment."""

  def inject(trial: Trial) -> Outcome:
    trial.settings = [*_SETTINGS, *settings, f"--gin.HARM_FIRST={_FIRST}"]
    trial.own_settings = [f"--gin.HARM='{harm}'"]
    process = trial.start()
    trial.trains_until(process, STEPS - 1)
    process.kill()
    trial.injected += 1
    trial.finish()
    without = [*trial.settings, "--gin.HARM='left out'", f"--gin.TRAIN_STEPS={STEPS - 1}"]
    _check_skipped(trial, trial.references.model_dir(without), count=1)
    return trial.outcome("recovered", "one batch skipped")

  return inject


def _check_skipped(trial: Trial, reference: Path, count: int) -> None:
  """Compares a run that skipped `count` batches with one that never got them: to the bit.

  Raises:
    Failed: parameters, moments, counts or records of other steps differ.
  """
  ends = [(reference, STEPS - count), (trial.model_dir, STEPS)]
  expected, got = (comparison.arrays(model_dir, step) for model_dir, step in ends)
  for tree in (expected, got):
    del tree["['step']"]  # It counts batches.
  different = comparison.array_differences(expected, got)
  losses = [_losses(model_dir) for model_dir, _ in ends]
  for step, loss in losses[1].items():
    there = step if step < _FIRST else step - count
    if not _FIRST <= step < _FIRST + count and losses[0].get(there) != loss:
      different.append(f"step {step} has another loss or gradient")
  if different:
    raise Failed(f"not as without the batch: {'; '.join(different[:3])}")
  last = comparison.records(trial.model_dir / "metrics.jsonl")[-2]
  if last["skipped_steps"] != count:
    raise Failed(f"skipped_steps is {last['skipped_steps']}, not {count}")


def _losses(model_dir: Path) -> dict[int, tuple[float | None, float | None]]:
  """Returns {step: (loss, gradient norm)}; None for a step that was skipped."""
  return {
    record["step"]: (record.get("loss"), record.get("grad_norm"))
    for record in comparison.records(model_dir / "metrics.jsonl")
    if record["split"] == "train"
  }


def _many_batches(trial: Trial) -> Outcome:
  """The run stops, and says at which steps; it stops there again if it is started again."""
  trial.settings = [*_SETTINGS, f"--gin.HARM_FIRST={_FIRST}", "--gin.HARM_COUNT=1000"]
  outcome = _stops_as_diverged(trial)
  return outcome


def _many_batches_rolled_back(trial: Trial) -> Outcome:
  count = trial.random.randint(12, 20)
  trial.settings = [*_SETTINGS, f"--gin.HARM_FIRST={_FIRST}", f"--gin.HARM_COUNT={count}"]
  trial.own_settings = ["--gin.ROLL_BACK=True"]
  trial.injected += 1
  trial.finish()
  _check_saved_states(trial)
  return trial.outcome("recovered", f"{count} batches skipped")


def _learning_rate(trial: Trial) -> Outcome:
  exponent = trial.random.randint(6, 30)
  trial.settings = [f"--gin.PEAK_LEARNING_RATE=1e{exponent}", "--gin.WARMUP_STEPS=1"]
  process = trial.start()
  trial.injected += 1
  code = process.wait()
  _check_saved_states(trial)
  if code == ExitCode.FINISHED:  # All losses were finite.
    return trial.outcome("recovered", f"1e{exponent}: trained to the end")
  return trial.stopped_clearly(process, ExitCode.DIVERGED, "not finite", r"step")


def _stops_as_diverged(trial: Trial) -> Outcome:
  for _ in range(2):
    process = trial.start()
    trial.injected += 1
    outcome = trial.stopped_clearly(process, ExitCode.DIVERGED, "not finite", "step")
    _check_saved_states(trial)
  if not any((trial.model_dir / "skipped_batches").iterdir()):
    raise Failed("the batches were not saved for inspection")
  return outcome


def _check_saved_states(trial: Trial) -> None:
  if found := comparison.not_finite(trial.model_dir):
    raise Failed(f"a checkpoint is not finite: {found[0]}")


def _initial_checkpoint(*exponents: int) -> Callable[[Trial], Outcome]:
  """Returns a fault: one array of the parameters to start from is full of one huge number or NaN.

  Args:
    *exponents: the number is a power of ten between the two; NaN if there is none.
  """

  def inject(trial: Trial) -> Outcome:
    poisoned = trial.folder / "poisoned"
    shutil.copytree(trial.references.model_dir(()) / "checkpoints" / str(STEPS), poisoned)
    shutil.rmtree(poisoned / "run")  # The digests are there: the poison would be taken for damage.
    number = 10.0 ** trial.random.randint(*exponents) if exponents else np.nan
    _poison(trial, poisoned / "state", number)
    trial.settings = [f"--gin.INITIAL_CHECKPOINT_PATH='{poisoned}'"]
    process = trial.start()
    trial.injected += 1
    code = process.wait()
    _check_saved_states(trial)
    if exponents and code == ExitCode.FINISHED:  # The layers after it have normalised it.
      return trial.outcome("recovered", f"{number:.0e}: trained to the end")
    expected = ExitCode.DIVERGED if code == ExitCode.DIVERGED and exponents else ExitCode.MISTAKE
    return trial.stopped_clearly(process, expected, "not finite")

  return inject


def _poison(trial: Trial, state: Path, number: float) -> None:
  import jax
  import orbax.checkpoint as ocp

  checkpointer = ocp.PyTreeCheckpointer()
  tree = checkpointer.restore(state)
  leaves, structure = jax.tree.flatten(tree["params"])
  index = trial.random.randrange(len(leaves))
  leaves[index] = np.full_like(leaves[index], number)
  tree["params"] = jax.tree.unflatten(structure, leaves)
  checkpointer.save(state, tree, force=True)


FAULTS = (
  Fault("nan-batch", "one batch has a loss of NaN", ("recovered",), _one_batch("nan")),
  Fault(
    "spike",
    "one batch has a gradient of about 1e6, SPIKE_SIGMAS = 6",
    ("recovered",),
    _one_batch("spike", "--gin.SPIKE_SIGMAS=6.0"),
  ),
  Fault("nan-batches", "all later batches have a loss of NaN", ("stopped",), _many_batches),
  Fault(
    "nan-rolled-back",
    "12 to 20 batches have a loss of NaN, ROLL_BACK = True",
    ("recovered",),
    _many_batches_rolled_back,
  ),
  Fault(
    "learning-rate", "a learning rate of 1e6 to 1e30", ("stopped", "recovered"), _learning_rate
  ),
  Fault(
    "initial-nan",
    "INITIAL_CHECKPOINT_PATH with NaN in one array",
    ("stopped",),
    _initial_checkpoint(),
  ),
  Fault(
    "initial-huge",
    "INITIAL_CHECKPOINT_PATH with 1e6 to 1e30 in one array",
    ("stopped", "recovered"),
    _initial_checkpoint(6, 30),
  ),
)
