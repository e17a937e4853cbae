"""Trains a model: python -m launch.train --gin_file=quickstart.gin

Starts a new run, or resumes from the newest checkpoint in MODEL_DIR.
"""

import contextlib
import json
import warnings
from collections.abc import Sequence
from typing import Any

from absl import flags as absl_flags

from t5x_style.errors import UserError

from .configuration import explanation, flags, reader, stage_settings
from .process import (
  command,
  distributed,
  environment,
  errors,
  exit_codes,
  output,
  same_start,
  signals,
)
from .sizing import choice

EXAMPLES = """\
python -m launch.train --gin_file=quickstart.gin
python -m launch.train --gin_file=quickstart_causal_lm.gin --gin.TRAIN_STEPS=2000
python -m launch.train --gin_file=my_run.gin --gin.MODEL_DIR="'/tmp/x'" --dry_run
python -m launch.train --gin_file=my_run.gin --explain
python -m launch.train --gin_file=my_run.gin --gin.MINUTES=15    (the size follows)
python -m launch.train --gin_file=/tmp/x/config.gin    (repeat a run)"""


def main(argv: Sequence[str]) -> int:
  with contextlib.ExitStack() as until_end:
    with signals.Listener(release=until_end.close) as listener:
      return _run(argv, until_end, listener)


def _run(argv: Sequence[str], until_end: contextlib.ExitStack, listener: signals.Listener) -> int:
  values = flags.parse(
    argv, about="Pre-trains a Transformer.", examples=EXAMPLES, define=_define_flags
  )
  output.tolerate_failures()
  environment.prepare()
  command_line = [f"python -m {environment.PACKAGE}.train", *map(flags.quoted, argv[1:])]
  with errors.as_configuration_errors():
    if values.explain:
      sized = choice.resolved(flags.read_configuration(values), print)
      print(f"{explanation.text(sized.settings)}\n{sized.text}".strip())
      return exit_codes.ExitCode.FINISHED
    distributed.connect(values)
    settings = flags.read_configuration(values)

    import jax

    from t5x_style.checkpoints import model_dir, restoring
    from t5x_style.interop.checkpoint_formats import READERS
    from t5x_style.reporting import (
      profiling,
      reporter,
      run_description,
      sampling,
      summary,
      terminal,
    )
    from t5x_style.training import loop, setup, train_config

    from .hosts import preflight

    first_process = jax.process_index() == 0
    out = terminal.Terminal(enabled=first_process)
    config = settings.build(train_config.TrainConfig)
    if config.deterministic:
      environment.set_deterministic()
    sized = choice.resolved(settings, out.note, jax.process_count())
    if sized.text:
      settings = sized.settings
      config = settings.build(train_config.TrainConfig)
      out.note(sized.text)
    due = preflight.is_due(values.preflight)
    same_start.check(
      "settings", settings.values() | same_start.software() | _flag_facts(values, due)
    )
    model_dir.check(config.model_dir)
    profiling.check(config.profile_steps)
    if due:
      preflight.check(config.model_dir, out.note)
    pulse, before_write = _take_model_dir(config, until_end, values.dry_run)
    prepared, *later = run = _prepare(settings, config)
    for one in run:
      setup.check_enough_data(one)
      data = f"data of stage {one.stage.number}" if later else "data"
      same_start.check(data, same_start.flat(one.identity()["data"], data))
    info = run_description.model_info(prepared)
    out.header("t5x_style", run_description.facts(*run) | environment.xla_facts())
    if values.dry_run:
      initial = restoring.check_start(prepared, READERS)
      out.note(f"\n{info}")
      for one in run:
        title = f"\nStage {run_description.stage_line(one)}\n" if later else ""
        out.note(f"{title}{run_description.batch_info(one)}")
      if initial:
        out.note(f"{initial.report}\n{initial.summary}\n")
      out.note("This was a dry run: nothing was trained.")
      return exit_codes.ExitCode.FINISHED
    job = restoring.open_run(prepared, READERS, later)
    if job.changes:
      lines = "\n".join(f"  {line}" for line in job.changes)
      out.note(f"The run resumes from step {job.first_step:,} with other settings:\n{lines}")
    if job.initial:
      out.note(job.initial.summary)
    with contextlib.ExitStack() as opened:  # Closed again if the run cannot start.
      opened.enter_context(job.checkpoints)
      sampler = sampling.Sampler(job)
      reports = reporter.RunReporter(
        job.prepared, job.first_step, out, pulse, before_write, sampler
      )
      if first_process:
        described = run_description.run_info(
          run, job.first_step, same_start.software(), " ".join(command_line)
        )
        texts = {
          "config.gin": settings.operative(),
          "model-info.txt": info,
          "run-info.json": f"{json.dumps(described, indent=1)}\n",
        }
        if sized.json:
          texts[choice.FILE] = sized.json
        if job.initial:
          texts["initial-parameters.txt"] = job.initial.report
        for name, text in texts.items():
          model_dir.write_text(prepared.model_dir, name, text)
        _store_vocabulary(prepared)
      opened.pop_all()
  environment.freeze_objects()
  with listener.training(values.grace_seconds, job.checkpoints.latest):
    result = loop.train(job, reports)
  code = exit_codes.of_stopped_run(None if result.complete else result.stopped_by)
  listener.at_end(code)
  if sized.text:  # The way to train longer: the size stays.
    written = flags.quoted(f"--gin_file={config.model_dir}/config.gin")
    command_line = [command_line[0], written]
  summary.show(out, result.job, result, command_line, sampler)
  pulse.beat("finished" if result.complete else "stopped")
  return code


def _flag_facts(values: Any, with_preflight: bool) -> dict[str, str]:
  """Returns the flags without which a process would not come to where the others wait for it."""
  return {"--preflight": str(with_preflight), "--dry_run": str(values.dry_run)}


def _prepare(settings: reader.Configuration, config: Any) -> list[Any]:
  """Builds and checks all stages of a run, also those that begin much later; returns them."""
  from t5x_style.training import setup, stages, train_config
  from t5x_style.training.stage import Stage

  found = []
  for stage in stage_settings.stages(settings):
    if stage.after_steps < config.train_steps:
      found.append(stage)
    else:
      warnings.warn(
        f"The run ends before its stage {stage.name!r}: TRAIN_STEPS = {config.train_steps}, and "
        f"the stage follows step {stage.after_steps}.",
        stacklevel=1,
      )
  if not found:
    return [setup.prepare(config)]
  ends = [*(stage.after_steps for stage in found), None]
  run = [setup.prepare(config, stage=Stage(stage_settings.FIRST, last=ends[0]))]
  for stage, end in zip(found, ends[1:], strict=True):
    with stage.active(settings) as own:
      changed = own.build(train_config.TrainConfig)
      run.append(stages.prepare_next(run[-1], changed, stage.name, end))
  return run


def _store_vocabulary(prepared: Any) -> None:
  """Writes MODEL_DIR/vocabulary; warns if the vocabulary cannot be stored."""
  store = getattr(prepared.dataset, "store_vocabulary", None)  # Synthetic data has no vocabulary.
  try:
    if store:
      store(prepared.model_dir)
  except UserError as error:
    warnings.warn(
      f"{prepared.model_dir / 'vocabulary'} is not written, so t5x_style.load cannot read text for "
      f"this model: {error}",
      stacklevel=2,
    )


def _define_flags(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_bool(
    "explain",
    False,
    "Show every setting: its value, where it is written, what it does; train nothing.",
    flag_values=values,
  )
  absl_flags.DEFINE_float(
    "grace_seconds",
    30.0,
    "Seconds between SIGTERM and SIGKILL on your machines. A save that takes longer is reported "
    "before they are over, and continues.",
    lower_bound=0.0,
    flag_values=values,
  )
  absl_flags.DEFINE_bool(
    "preflight",
    None,
    "Check all hosts before the first step, in seconds, as launch.preflight does. By default a job "
    "of several processes does so.",
    flag_values=values,
  )


def _take_model_dir(config: Any, until_end: contextlib.ExitStack, dry_run: bool) -> tuple[Any, Any]:
  """Takes MODEL_DIR for this run, and watches from here on that the run does not hang.

  Returns:
    the run's Heartbeat, and a function to call before anything is written, None if there is none.

  Raises:
    UserError: another run writes to MODEL_DIR.
  """
  import jax
  from etils import epath

  from t5x_style.checkpoints.lease import Lease
  from t5x_style.reporting.hangs import HangWatch
  from t5x_style.reporting.heartbeat import Heartbeat

  if dry_run:
    return Heartbeat(), None
  folder, index = epath.Path(config.model_dir).expanduser(), jax.process_index()
  end, before_write = command.end_at_once, None
  if index == 0:
    before_write = until_end.enter_context(Lease(folder, end)).confirm
  path = folder / "heartbeat.json" if index == 0 else None
  pulse = until_end.enter_context(Heartbeat(path, index))
  stacks = folder / f"stacks-{index}.txt"
  minutes = None if environment.is_plain() else config.hang_minutes
  until_end.enter_context(HangWatch(pulse, minutes, stacks, end))
  return pulse, before_write


if __name__ == "__main__":
  environment.take_large_pages()
  command.run(main)
