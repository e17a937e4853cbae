"""What MINUTES or FLOPS make of a configuration: a size, a batch, a number of steps, a rate.

The choice is made once: MODEL_DIR/size.json keeps it, and a run that resumes reads it there. In
config.gin the chosen values stand instead of MINUTES, so that a repeated run chooses nothing.
"""

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from etils import epath

from t5x_style.durations import duration

from ..configuration import data_parameters, open_size
from ..configuration.gin_files import COMMAND_LINE
from ..configuration.gin_text import SourceLocation
from ..configuration.reader import Configuration
from ..process.errors import ConfigurationError
from . import conflicts, text_size
from .conflicts import LAYERS, MODEL, RATE, SIZES

FILE = "size.json"  # in MODEL_DIR
_now = time.monotonic
_OBJECTIVE = "t5x_style.data.loader.load.objective"
# Periods that are shortened for a short run, to this number of them.
_PERIODS = {"SAVE_PERIOD": 4, "LOG_PERIOD": 20}
_EVAL_PERIOD = "EVAL_PERIOD"  # is chosen, too, unless the command line has one
_STATE_BYTES = 16  # of a parameter, its gradient and AdamW's moments, in float32
_SPLITTING = ("fsdp", "tensor")  # axes along which parameters are split, not copied
_HUGE = 2**60  # bytes for which the mesh is chosen that splits the most
_OF_STATE = 0.5  # of the memory; the other half is for activations


class Chosen(NamedTuple):
  """A configuration without MINUTES and FLOPS.

  Attributes:
    settings: gin has them.
    text: the choice and its reasons, in a few lines; "" if there was nothing to choose.
    json: what MODEL_DIR/size.json should hold; "" likewise.
  """

  settings: Configuration
  text: str = ""
  json: str = ""


def resolved(
  settings: Configuration, note: Callable[[str], None], process_count: int = 1
) -> Chosen:
  """Chooses what MINUTES or FLOPS leave open; a configuration without them stays as it is.

  Args:
    note: shows a line while steps are timed.
    process_count: of the run.

  Raises:
    ConfigurationError: a setting that is chosen is given on the command line, or this kind of run
      cannot be sized.
    UserError: the budget is too small, or both MINUTES and FLOPS are set.
  """
  if not open_size.given(settings):
    return Chosen(settings)

  from t5x_style.planning import sizing
  from t5x_style.training import train_config

  budget = settings.build(sizing.Budget)
  config = settings.build(train_config.TrainConfig)
  conflicts.check(settings, config, budget, process_count)
  kept = _kept(epath.Path(config.model_dir).expanduser(), budget)
  if kept is None:
    kept = _choose(settings, config, budget, note)
  chosen = _with_choice(settings, budget, kept["macros"], kept["parameters"])
  return Chosen(chosen, kept["text"], f"{json.dumps(kept, indent=1)}\n")


def _with_choice(
  settings: Configuration, budget: Any, macros: dict[str, Any], parameters: dict[str, Any]
) -> Configuration:
  """Returns the configuration with what was chosen; gin has it.

  Raises:
    ConfigurationError: the run would not be the chosen one.
  """
  from t5x_style.training import train_config

  free = (RATE, _EVAL_PERIOD, *_PERIODS)  # A run that resumes may have other ones.
  given = [name for name in free if _on_command_line(settings, name)]
  macros = {name: value for name, value in macros.items() if name not in given}
  location = SourceLocation(str(budget), None, f"chosen for {budget}")
  chosen = settings.with_values(macros, parameters, location)
  conflicts.check_chosen(
    settings,
    chosen.build(train_config.TrainConfig),
    budget,
    macros | parameters,
    chosen.macro(RATE),
  )
  return chosen


def _kept(folder: Any, budget: Any) -> dict[str, Any] | None:
  """Returns the choice of a run that has checkpoints; None if it is a new one.

  Raises:
    ConfigurationError: the run in MODEL_DIR has another budget, or none.
  """
  if not any((folder / "checkpoints").glob("[0-9]*")):
    return None
  path = folder / FILE
  kept = json.loads(path.read_text()) if path.exists() else {"budget": "another way"}
  if kept["budget"] != str(budget):
    raise ConfigurationError(
      f"MODEL_DIR = {str(folder)!r} has a run whose size was chosen by {kept['budget']}, not by "
      f"{budget}. Resume it with its own settings, or set another MODEL_DIR."
    )
  return kept


def _choose(
  settings: Configuration, config: Any, budget: Any, note: Callable[[str], None]
) -> dict[str, Any]:
  """Returns the content of size.json."""
  import jax

  from t5x_style.planning import size_laws, sizing
  from t5x_style.training import setup
  from t5x_style.training.dataset import tokens_per_row

  from . import speed  # Imports JAX, which launch.train may not do when it starts.

  begun = _now()
  multiple = jax.device_count() * config.num_microbatches
  rows_of_batch = -(-config.batch_size // multiple) * multiple  # BATCH_SIZE need not fit.
  dataset = setup.prepare(dataclasses.replace(config, batch_size=rows_of_batch)).dataset
  corpus = settings.argument(data_parameters.CORPUS)
  rows = sizing.Rows(
    tokens_per_row(dataset.feature_shapes),
    dataset.max_targets,
    text=text_size.tokens(corpus, dataset),
    multiple=multiple,
  )
  objective = getattr(settings.argument(_OBJECTIVE), "name", None)
  law = size_laws.nearest(config.model.architecture, objective)
  most = _most_parameters(config, jax.devices())

  def choose(flops: float) -> sizing.Run:
    return sizing.choose(config.model, law, rows, flops, most)

  def timed(run: sizing.Run) -> speed.Speed:
    note(f"{budget}: steps of width {run.model.emb_dim} are timed.")
    return speed.measure(dataclasses.replace(config, model=run.model, batch_size=run.batch_size))

  measured = None
  if budget.minutes:
    first = sizing.plan(sizing.base_size(config.model), law, rows, size_laws.LAWS[law].flops)
    _with_choice(settings, budget, *_values(settings, first))  # Checked before steps are timed.
    settings.use()
    minutes = speed.Minutes(
      budget.minutes,
      config.eval_batches,
      choose,
      plan=lambda model, flops: sizing.plan(model, law, rows, flops),
      timed=timed,
      spent=lambda: _now() - begun,
    )
    run, measured = minutes.run(first)
  else:
    run = choose(budget.flops)
  if _on_command_line(settings, RATE):
    run = dataclasses.replace(run, rate=settings.macro(RATE))
  macros, parameters = _values(settings, run)
  return {
    "budget": str(budget),
    "text": "\n".join(_lines(str(budget), run, law, objective, rows, measured)),
    "macros": macros,
    "parameters": parameters,
  }


def _most_parameters(config: Any, devices: Sequence[Any]) -> float:
  """Returns how many parameters fit the devices, of which those along data have copies."""
  from t5x_style.partitioning import default_mesh_shape
  from t5x_style.partitioning.mesh import mesh_sizes

  shape = config.mesh_shape or default_mesh_shape(_HUGE, devices)[0]
  sizes = mesh_sizes(shape, len(devices), config.dcn_mesh_shape)
  parts = math.prod(sizes[axis] for axis in _SPLITTING)
  return _OF_STATE * _memory(devices) * parts / _STATE_BYTES


def _memory(devices: Sequence[Any]) -> float:
  """Returns the bytes of a device's memory; of a CPU, its share of those of this machine."""
  from t5x_style import hardware

  known = hardware.device_memory(devices[0])
  return known or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / len(devices)


def _values(settings: Configuration, run: Any) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the macros, and the parameters by their full names, that a run sets."""
  from . import speed

  model = run.model
  macros: dict[str, Any] = dict.fromkeys(open_size.BUDGETS)
  macros |= {
    "TRAIN_STEPS": run.train_steps,
    "BATCH_SIZE": run.batch_size,
    RATE: run.rate,
    "WARMUP_STEPS": run.warmup_steps,
    "BASE_EMB_DIM": model.base_emb_dim,
    "BASE_HEAD_DIM": model.base_head_dim,
    "BASE_LAYERS": model.base_layers,
  }
  if not _on_command_line(settings, _EVAL_PERIOD):
    macros[_EVAL_PERIOD] = math.ceil(run.train_steps / speed.EVALUATIONS)
  for name, times in _PERIODS.items():
    value = settings.macro(name)
    if not _on_command_line(settings, name) and isinstance(value, int):
      macros[name] = min(value, math.ceil(run.train_steps / times))
  names = [*SIZES, *(name for name in LAYERS if getattr(model, name))]
  return macros, {f"{MODEL}.{name}": getattr(model, name) for name in names}


def _on_command_line(settings: Configuration, macro: str) -> bool:
  found = settings.macros.get(macro)
  return found is not None and found.location.source == COMMAND_LINE


def _lines(
  budget: str, run: Any, law: str, objective: str | None, rows: Any, measured: Any
) -> Iterator[str]:
  """Yields what is chosen, and why."""
  from t5x_style.planning import size_laws

  model, flops = run.model, run.train_steps * run.step_flops
  if measured:
    seconds = run.train_steps * measured.step
    yield (
      f"{budget}: this machine computes {run.step_flops / measured.step:.2g} FLOP/s with this "
      f"model (timed), so {flops:.2g} FLOPs in {duration(seconds)} of steps; the rest is for "
      "compiling and evaluations."
    )
  layers = "+".join(str(getattr(model, x)) for x in LAYERS if getattr(model, x))
  yield (
    f"{budget}: chosen are width {model.emb_dim}, {layers} layers; {run.train_steps:,} steps of "
    f"{run.batch_size} rows of {rows.tokens} tokens; peak learning rate {run.rate:.2g}, which is "
    f"that of width {model.base_emb_dim}. Together {flops:.2g} FLOPs."
  )
  pilot = size_laws.LAWS[law].flops
  times = _rounded(flops / pilot)
  whose = "" if law == objective else f" (the nearest to {objective or 'this task'})"
  yield (
    "  The size is that of Hoffmann's law with published constants; batch and rate are those of "
    f"runs of {law}{whose} with {pilot:.2g} FLOPs; this one has {times} times as many."
  )
  if rows.text is None:
    yield f"  How much text there is is not known; {run.tokens:,.0f} tokens are read."
  else:
    times = _rounded(run.tokens / rows.text)
    yield f"  The text has about {rows.text:,.0f} tokens, and is read {times} times."


def _rounded(number: float) -> str:
  """Returns two digits, or all those of whole numbers: "0.25", "31", "1,480"."""
  return f"{number:.2g}" if number < 99.5 else f"{number:,.0f}"
