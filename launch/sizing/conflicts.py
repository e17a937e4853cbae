"""Settings that decide what MINUTES or FLOPS decide as well, and runs that they cannot size."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from ..configuration.gin_files import COMMAND_LINE
from ..configuration.gin_text import Macro
from ..configuration.reader import Configuration
from ..process.errors import ConfigurationError

MODEL = "t5x_style.models.config.TransformerConfig"
SIZES = ("emb_dim", "num_heads", "num_kv_heads", "mlp_dim")
LAYERS = ("num_encoder_layers", "num_decoder_layers")
RATE = "PEAK_LEARNING_RATE"
_RUN = "t5x_style.training.train_config.TrainConfig"
# Macros that are chosen, and the parameters that have to have their values.
_CHOSEN = {
  "TRAIN_STEPS": f"{_RUN}.train_steps",
  "BATCH_SIZE": f"{_RUN}.batch_size",
  "BASE_EMB_DIM": f"{MODEL}.base_emb_dim",
  "BASE_HEAD_DIM": f"{MODEL}.base_head_dim",
  "BASE_LAYERS": f"{MODEL}.base_layers",
}
_MOST_STEPS = 100_000  # that the rates are computed of
_TOLERANCE = 1e-3  # of the rate, for float32 and a peak between two computed steps


def check(settings: Configuration, config: Any, budget: Any, process_count: int) -> None:
  """Checks what is known before anything is chosen.

  Args:
    config: the TrainConfig of the settings.
    process_count: of the run.

  Raises:
    ConfigurationError: something else decides the size, or this kind of run cannot be sized.
  """
  from t5x_style.training import optimizers

  sizes = [f"{MODEL}.{name}" for name in (*SIZES, *LAYERS)]
  given = [settings.macros[name] for name in (*_CHOSEN, "WARMUP_STEPS") if name in settings.macros]
  given += [bound for bound in settings.bound if f"{bound.target}.{bound.name}" in sizes]
  for bound in given:
    if bound.location.source == COMMAND_LINE:
      raise ConfigurationError(
        f"{budget} chooses {bound.name}; leave one of the two out.{bound.location.quoted()}"
      )
  schedule = settings.macros.get("SCHEDULE_STEPS")
  if schedule and schedule.value != Macro("TRAIN_STEPS"):
    raise ConfigurationError(
      f"{budget} chooses how long the run is, and so its schedule; leave SCHEDULE_STEPS out."
      f"{schedule.location.quoted()}"
    )
  if config.model.experts is not None:
    raise ConfigurationError(
      f"{budget} chooses sizes of dense models, and this one has experts; choose the size and "
      "TRAIN_STEPS yourself."
    )
  if config.stages:
    raise ConfigurationError(
      f"{budget} sizes a run without STAGES, and this one has {', '.join(config.stages)}. Set "
      "STAGES = {}, or choose the size yourself."
    )
  if config.initial_checkpoint_path is not None:
    raise ConfigurationError(
      f"{budget} chooses the size of a new model, and INITIAL_CHECKPOINT_PATH has one: set the "
      "checkpoint to None, or TRAIN_STEPS instead of the budget."
    )
  if inspect.unwrap(config.optimizer) is not optimizers.adamw:
    raise ConfigurationError(
      f"{budget} knows the learning rates of AdamW only; include runs/optimizers/adamw.gin, or "
      "choose size and rate yourself."
    )
  if budget.minutes and process_count > 1:
    raise ConfigurationError(
      f"{budget} times steps in one process, and this run has {process_count}; set FLOPS."
    )


def check_chosen(
  settings: Configuration, config: Any, budget: Any, chosen: Mapping[str, Any], rate: float
) -> None:
  """Checks that a run has the chosen values, which bindings of its parameters may override.

  Args:
    settings: without the choice, to say where something else is set.
    config: the TrainConfig with the choice.
    chosen: {name of a macro, or full name of a parameter: value}.
    rate: the peak learning rate.

  Raises:
    ConfigurationError: naming what is not as it was chosen.
  """
  for name, value in _parameters(chosen):
    owner, _, parameter = name.rpartition(".")
    found = getattr(config.model if owner == MODEL else config, parameter)
    if found != value:
      places = [
        bound.location.quoted()
        for bound in settings.bound
        if f"{bound.target}.{bound.name}" == name and not isinstance(bound.value, Macro)
      ]
      short = ".".join(name.split(".")[-2:])
      raise ConfigurationError(
        f"{budget} chooses {short}, and this configuration sets it to {found!r} all the same; "
        f"leave one of the two out.{(places or [''])[-1]}"
      )
  peak = _peak(config)
  if abs(peak - rate) > _TOLERANCE * rate:
    raise ConfigurationError(
      f"{budget} chooses the highest learning rate of the run, here {rate:.3g}, and SCHEDULE has "
      f"{peak:.3g}. Include a schedule that reaches {RATE}: runs/schedules/cosine.gin, linear.gin, "
      "wsd.gin or constant.gin of that folder; or choose size and rate yourself."
    )


def _parameters(chosen: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
  for name, value in chosen.items():
    if name in _CHOSEN:
      yield _CHOSEN[name], value
    elif "." in name:
      yield name, value


def _peak(config: Any) -> float:
  """Returns the highest learning rate of a run."""
  import jax
  import numpy as np

  last = config.train_steps - 1
  steps = np.unique(np.linspace(0, last, min(last + 1, _MOST_STEPS)).astype(np.int32))
  return float(jax.vmap(config.schedule)(steps).max())
