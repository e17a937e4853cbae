"""The summary of a run that has ended: how good it is, how fast it was, how to use it."""

import shlex
from collections.abc import Mapping, Sequence

from t5x_style.durations import duration
from t5x_style.objective_tasks import TAUGHT
from t5x_style.reporting.sampling import Sampler
from t5x_style.reporting.terminal import Terminal, speed
from t5x_style.training.job import Job
from t5x_style.training.loop import Result


def show(
  terminal: Terminal, job: Job, result: Result, command: Sequence[str], sampler: Sampler
) -> None:
  """Prints the summary, with a sample of the model unless the run was stopped.

  All processes of the job have to call this.

  Args:
    command: the words that started the run, quoted for a shell where they need it.
    sampler: of the run.
  """
  step = int(result.state.step)
  with terminal.waiting("Taking samples of what the model predicts"):
    sample = sampler.take(step, result.state.params) if result.stopped_by is None else {}
  terminal.summary(
    _title(job, result),
    train=result.train,
    validation=result.validation,
    reference=result.reference,
    baseline=result.baseline,
    facts=_facts(job, result, command),
    sample=sample,
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
  folder = shlex.quote(str(job.prepared.model_dir))
  facts["report"] = f"{command[0].removesuffix('.train')}.report {folder}"
  if result.stopped_by and not result.complete:
    facts["resume with"] = " ".join(command)
  elif step >= config.train_steps:
    kept = [word for word in command if not word.startswith("--gin.TRAIN_STEPS=")]
    facts["train longer"] = " ".join([*kept, f"--gin.TRAIN_STEPS={2 * config.train_steps}"])
    program = command[0].removesuffix(".train") + ".infer"
    facts["use it"] = f"{program} {folder} {example_text(job)}"
  return facts


def example_text(job: Job) -> str:
  """Returns what a user would write other words in place of; [MASK] is a hole for every model."""
  if job.prepared.dataset.label_names:
    return "'a text'"
  components = job.prepared.identity()["data"].get("components", [{}])
  usual = "fill" if job.prepared.config.model.architecture == "encoder_only" else "continue"
  names = (component.get("objective", "") for component in components)
  tasks = {TAUGHT[name][0][0] if name in TAUGHT else usual for name in names}
  return "'some text with [MASK]'" if "fill" in tasks else "'the beginning of a text'"


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
