"""Compiled programs: their temporary memory, and their seconds when they run in turns."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from t5x_style.planning import compilation

# As many rounds as take MOST_SECONDS, but not fewer or more than these.
MOST_SECONDS, FEWEST, MOST = 30.0, 5, 31


def compile_or_none(
  compile_program: Callable[[], jax.stages.Compiled],
) -> jax.stages.Compiled | None:
  """Returns the compiled program, None if it needs more memory than the device has."""
  compiled = compilation.compile_if_it_fits(compile_program)
  return None if isinstance(compiled, compilation.TooLarge) else compiled


def temporary_bytes(compiled: jax.stages.Compiled | None) -> int | None:
  """Returns the bytes that a program needs on each device beyond its arguments and outputs."""
  memory = compilation.memory(compiled) if compiled else None
  return memory.temporaries if memory else None


def seconds_in_turns(
  programs: Mapping[str, Callable[..., Any]], inputs: Sequence[Any]
) -> dict[str, list[float]]:
  """Returns {name: seconds of each round}.

  The programs run one after the other in each round, in reverse order every other round: what else
  the machine does affects all of them alike.
  """
  names = list(programs)
  taken: dict[str, list[float]] = {name: [] for name in names}
  begun = time.perf_counter()
  for turn in range(MOST + 1):
    for name in names if turn % 2 else names[::-1]:
      start = time.perf_counter()
      jax.block_until_ready(programs[name](*inputs))
      if turn:  # The first round warms up.
        taken[name].append(time.perf_counter() - start)
    if turn >= FEWEST and time.perf_counter() - begun > MOST_SECONDS:
      break
  return taken


def timing_columns(seconds: Mapping[str, list[float]], label: str, flops: float) -> dict[str, Any]:
  """Returns the columns of a row about time, none of them if the program was not timed.

  Args:
    seconds: what seconds_in_turns returned; "plain" is the program to compare with.
    flops: of one run of the program, for TFLOP/s.
  """
  if not seconds.get(label):
    return {}
  median = statistics.median(seconds[label])
  columns = {
    "milliseconds": 1e3 * median,
    "teraflops": flops / median / 1e12,
    "rounds": len(seconds[label]),
  }
  if plain := seconds.get("plain"):
    ratios = [own / other for own, other in zip(seconds[label], plain, strict=True)]
    columns["time_ratio"] = statistics.median(ratios)
  return columns
