"""Staged training: what may change between the stages of a run, and how one follows another.

Examples are the warm-up of the batch size, longer rows after most of the training, and a decay
phase on better data (ModernBERT, Warner et al. 2024, section 2.3). Parameters, optimizer state,
step, learning-rate schedule and random numbers continue; data, lengths, rates and batch size
change. Each stage reads its data from the start, in an order of its own, and counts its epochs.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from t5x_style.errors import UserError, shortened
from t5x_style.models import TransformerConfig
from t5x_style.training import resuming, setup
from t5x_style.training.job import Job
from t5x_style.training.setup import Prepared
from t5x_style.training.stage import Stage
from t5x_style.training.state import TrainState
from t5x_style.training.train_config import TrainConfig

# What a stage may change: fields of TrainConfig, and of TransformerConfig those that leave every
# parameter as it is.
OF_RUN = ("dataset", "batch_size", "num_microbatches", "eval_batches")
OF_MODEL = (
  *("rotary_base", "rotary_base_local", "rotary_scaling", "attention_windows"),
  *("dropout_rate", "attention_dropout_rate", "remat", "attention"),
)
OF_EXPERTS = ("dropout_rate",)
# The parts of the identity of the data that must stay.
_OF_DATA = ("vocabulary", "architecture")
_SAME_RUN = (
  "A stage changes data, lengths, rates, batch size, microbatches, dropout, rotary positions or "
  "attention windows. Train one run after the other, with INITIAL_CHECKPOINT_PATH, to change more."
)


def prepare_next(previous: Prepared, config: TrainConfig, name: str, last: int | None) -> Prepared:
  """Builds and checks the stage that follows another one.

  Args:
    previous: the stage before it, whose `stage.last` is where this one begins.
    config: the settings of the new stage.
    name: of the new stage.
    last: the steps at its end; None: all steps of the run.

  Raises:
    UserError: a part cannot work, or a setting may not change within a run.
  """
  before = previous.stage
  assert before.last is not None
  identity = previous.identity()
  past = {k: v for k, v in identity.items() if k != "past_stages"} | {"until_step": before.last}
  stage = Stage(name, before.number + 1, before.last, last, (*before.past, past))
  try:
    _check_config(previous.config, config)
    prepared = setup.prepare(config, stage=stage)
    _check_prepared(previous, prepared)
  except UserError as error:
    raise UserError(f"Stage {stage.number}, {name!r}: {error}") from error
  return prepared


def _check_config(before: TrainConfig, now: TrainConfig) -> None:
  """Raises UserError if a setting changes that has to stay."""
  changed = [
    field.name
    for field in dataclasses.fields(TrainConfig)
    if field.name not in (*OF_RUN, "model", "optimizer", "schedule", "stages")
    and getattr(before, field.name) != getattr(now, field.name)
  ]
  old, model = before.model.experts, now.model
  if old and model.experts:
    kept = {name: getattr(old, name) for name in OF_EXPERTS}
    model = dataclasses.replace(model, experts=dataclasses.replace(model.experts, **kept))
  changed += [
    f"TransformerConfig.{field.name}"
    for field in dataclasses.fields(TransformerConfig)
    if field.name not in OF_MODEL
    and getattr(before.model, field.name) != getattr(model, field.name)
  ]
  if changed:
    raise UserError(f"{', '.join(changed)} cannot change during a run. {_SAME_RUN}")


def _check_prepared(before: Prepared, now: Prepared) -> None:
  """Raises UserError if the state, the optimizer or the vocabulary of two stages differ."""
  if resuming.layout(before.abstract) != resuming.layout(now.abstract):
    raise UserError(f"its parameters or the optimizer's state have other shapes. {_SAME_RUN}")
  data, new = before.dataset.identity(), now.dataset.identity()
  for name in _OF_DATA:
    if data.get(name) != new.get(name):
      old, changed = (json.dumps(x.get(name), sort_keys=True) for x in (data, new))
      raise UserError(f"the {name} of the data changes from {old} to {changed}. {_SAME_RUN}")
  if before.dataset.label_names != now.dataset.label_names:
    raise UserError(f"the labels of the data change. {_SAME_RUN}")
  allowed = {"NUM_MICROBATCHES", "REMAT", "ATTENTION"}
  lines = [
    line for line in now.changes(before.settings(0), 0) if line.partition(":")[0] not in allowed
  ]
  if lines:
    raise UserError(f"{'; '.join(shortened(lines))}. {_SAME_RUN}")


def at(stages: Sequence[Prepared], step: int) -> int:
  """Returns the index of the stage that trained step `step`; of step 0 the first one.

  Args:
    stages: all stages of a run.
    step: counts from 1, up to the last step of the run or beyond it.
  """
  for index, prepared in enumerate(stages[:-1]):
    if step <= prepared.last_step:
      return index
  return len(stages) - 1


def next_job(job: Job, state: TrainState, progress: dict[str, Any]) -> Job:
  """Opens the stage that follows that of `job`, with the state and the progress at its end.

  Its averages are new: a stage ends with a record, but one that was added later, at the step of
  a checkpoint, has averages that no record holds, and perhaps of other components.
  """
  prepared, *later = job.later
  progress = {k: v for k, v in progress.items() if k not in ("totals", "latest")}
  return dataclasses.replace(
    job,
    prepared=prepared,
    later=tuple(later),
    iterator=prepared.dataset.train(),
    eval_batches=list(prepared.dataset.evaluation(prepared.config.eval_batches)),
    state=begin(prepared, state),
    first_step=prepared.stage.first,
    progress=progress,
  )


def begin(prepared: Prepared, state: TrainState) -> TrainState:
  """Returns the state with which a stage begins, if the state is that of the end of the last one.

  The guard forgets the losses of the stage before it: those of other data are no spikes.
  """
  if prepared.stage.number == 1 or int(state.step) != prepared.stage.first:
    return state
  # Products have the shardings of their arguments; each has to be an array of its own.
  forgotten = {name: 0 * getattr(state.guard, name) for name in ("normal", "spikes_in_a_row")}
  return state.replace(guard=state.guard.replace(**forgotten))
