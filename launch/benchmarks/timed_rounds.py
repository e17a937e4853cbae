"""Programs that take turns: what else the machine does meets all of them alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

# As many rounds as fit in MOST_SECONDS, within these.
MOST_SECONDS, FEWEST, MOST = 30.0, 5, 31


def seconds(
  programs: Mapping[str, Callable[..., Any]], inputs: Sequence[Any]
) -> dict[str, list[float]]:
  """{name: seconds of each round}; every other round goes through the programs backwards."""
  names = list(programs)
  taken: dict[str, list[float]] = {name: [] for name in names}
  begun = time.perf_counter()
  for turn in range(MOST + 1):
    for name in names if turn % 2 else names[::-1]:
      start = time.perf_counter()
      jax.block_until_ready(programs[name](*inputs))
      if turn:  # The first one warms up.
        taken[name].append(time.perf_counter() - start)
    if turn >= FEWEST and time.perf_counter() - begun > MOST_SECONDS:
      break
  return taken
