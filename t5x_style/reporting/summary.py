"""The summary of a run that has ended: how good it is, how fast it was, how to use it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.experimental import multihost_utils

from t5x_style.durations import duration
from t5x_style.inference.classification import labelled_sample
from t5x_style.inference.samples import sample
from t5x_style.partitioning import total_bytes
from t5x_style.reporting.terminal import Terminal, speed
from t5x_style.training.job import Job
from t5x_style.training.loop import Result

# Parameters of several processes are gathered in the first one to write a sample up to this size.
_GATHERED_BYTES = 2**30
# Objectives whose models continue or answer a text; those of others fill its holes.
_CONTINUING = {"causal_lm", "prefix_lm", "text_to_text"}


def show(terminal: Terminal, job: Job, result: Result, command: Sequence[str]) -> None:
  """Prints the summary, with a sample of the model unless the run was stopped.

  All processes of the job have to call this.

  Args:
    command: the words that started the run, quoted for a shell where they need it.
  """
  terminal.summary(
    _title(job, result),
    train=result.train,
    validation=result.validation,
    reference=result.reference,
    baseline=result.baseline,
    facts=_facts(job, result, command),
    sample=_sample(job, result.state.params) if result.stopped_by is None else {},
  )


def _title(job: Job, result: Result) -> str:
  step, last = int(result.state.step), job.prepared.config.train_steps
  if result.stopped_by and not result.complete and not step:
    return f"Stopped by {result.stopped_by} before the first step; there is nothing to save."
  if result.stopped_by and not result.complete:
    return f"Stopped by {result.stopped_by} at step {step:,} of {last:,}; all is saved."
  if result.first_step >= last:
    return f"Nothing to do: MODEL_DIR is at step {step:,} of {last:,} already."
  return f"Trained {step:,} steps."


def _facts(job: Job, result: Result, command: Sequence[str]) -> dict[str, str]:
  """Returns how fast the run was, where its files are, and how to resume it or use its model."""
  config, step = job.prepared.config, int(result.state.step)
  facts = {}
  if changed := since_the_start(result.reference, result.validation):
    facts["since step 0"] = "\n".join(changed)
  if "tokens_per_second" in result.train:
    facts["speed"] = speed(result.train)
  if "seconds" in result.validation or "seconds" in result.train:
    facts["time"] = duration(max(x.get("seconds", 0) for x in (result.train, result.validation)))
  if skipped := job.iterator.skipped():
    facts["text"] = skipped
  facts["checkpoints"] = str(job.prepared.model_dir / "checkpoints" / str(step))
  facts["metrics"] = str(job.prepared.model_dir / "metrics.jsonl")
  if result.stopped_by and not result.complete:
    facts["resume with"] = " ".join(command)
  elif step >= config.train_steps:
    kept = [word for word in command if not word.startswith("--gin.TRAIN_STEPS=")]
    facts["train longer"] = " ".join([*kept, f"--gin.TRAIN_STEPS={2 * config.train_steps}"])
    program = command[0].removesuffix(".train") + ".infer"
    folder = shlex.quote(str(job.prepared.model_dir))
    facts["use it"] = f"{program} {folder} {_example_text(job)}"
  return facts


def _example_text(job: Job) -> str:
  """Returns what a user would write other words in place of; [MASK] is a hole for every model."""
  if job.prepared.dataset.label_names:
    return "'a text'"
  components = job.prepared.identity()["data"].get("components", [{}])
  decoder_only = job.prepared.config.model.architecture == "decoder_only"
  default = "causal_lm" if decoder_only else ""  # of a task of the user's own
  names = {component.get("objective", default) for component in components}
  return "'the beginning of a text'" if names <= _CONTINUING else "'some text with [MASK]'"


def since_the_start(reference: Mapping[str, float], validation: Mapping[str, float]) -> list[str]:
  """Returns a line for each component of the data: what the model has learnt of it, or forgotten.

  Args:
    reference, validation: records of held-out losses in nats per token, before the first step and
      now; {} if there is none. "loss/old" is the loss of the component "old".
  """
  lines = []
  for name, before in reference.items():
    now = validation.get(name)
    kind, _, component = name.partition("/")
    if kind != "loss" or not component or "/" in component or now is None:
      continue
    what = "gained" if now <= before else "forgotten"
    lines.append(
      f"{component}: loss {before:.3f} -> {now:.3f}, {abs(now - before):.3f} nats/token {what}"
    )
  return lines


def _sample(job: Job, params: Any) -> dict[str, str]:
  """Returns text that the trained model writes on a held-out example, in the first process.

  Returns {} if the model spans several processes and is too large to be gathered in one.
  """
  if jax.process_count() == 1:
    with job.prepared.partitioner.context():
      return _sample_or_reason(job, params)
  if total_bytes(params) > _GATHERED_BYTES:
    return {}
  params = multihost_utils.process_allgather(params, tiled=True)
  written = {}
  if jax.process_index() == 0:
    with jax.default_device(jax.local_devices()[0]):
      written = _sample_or_reason(job, params)
  multihost_utils.sync_global_devices("closing sample")
  return written


def _sample_or_reason(job: Job, params: Any) -> dict[str, str]:
  """Returns a sample, or why there is none: an error must not end a run that is complete."""
  prepared = job.prepared
  model, dataset = prepared.loss.model, prepared.dataset
  try:
    if dataset.label_names:
      batch = job.eval_batches[0]
      return labelled_sample(model, params, batch, dataset.decode, dataset.label_names)
    return sample(model, params, job.eval_batches[0], dataset.decode, dataset.special_ids)
  except Exception as error:
    return {"no sample could be made": f"{type(error).__name__}: {error}"}
