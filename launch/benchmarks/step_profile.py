"""A profile of a compiled training step: where the time of two steps goes."""

import re
from pathlib import Path

import jax
from etils import epath

from t5x_style.errors import first_line
from t5x_style.reporting import profiling

from .flax_step import FlaxStep

_STEPS = 2


def write(flax_step: FlaxStep, folder: Path, name: str) -> str:
  """Traces two steps and returns the table of the longest operations, or why there is none.

  Args:
    folder: gets NAME.txt, the table, and NAME/, the trace for XProf or TensorBoard.
    name: of the case; characters that are no letters or digits become "-".
  """
  place = epath.Path(folder) / re.sub(r"\W+", "-", name)
  try:
    table = _traced(flax_step, place)
  except Exception as error:  # The figures of the step are there all the same.
    return f"no profile: {type(error).__name__}: {first_line(error)}"
  place.with_name(f"{place.name}.txt").write_text(f"{table}\n")
  return table


def _traced(flax_step: FlaxStep, place: epath.Path) -> str:
  profiling.check((1, _STEPS))
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0  # As for PROFILE_STEPS: only the device matters.
  jax.profiler.start_trace(place, profiler_options=options)
  try:
    for number in range(_STEPS):
      sums = flax_step.step(number)
    flax_step.loss(sums)
  finally:
    jax.profiler.stop_trace()
  parts = profiling.operations(flax_step.program)
  return profiling.summary(profiling.newest_trace(place), parts, _STEPS)
