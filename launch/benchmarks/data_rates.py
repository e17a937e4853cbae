"""Measures how fast batches come, for launch.benchmark data."""

import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from t5x_style.data import converters
from t5x_style.data.tensorflow_setup import tf

Batch = Mapping[str, np.ndarray]
Count = Callable[[Batch], int]

_DENSITY_BATCHES = 20
_WARM_UP_SECONDS, _ROUND_SECONDS, _ROUNDS = 2.0, 3.0, 5


def rates(batches: Iterator[Batch], count: Count) -> dict[str, Any]:
  """Measures endless batches: tokens and rows per second, and how full the rows are.

  Args:
    count: returns the tokens of a batch.
  """
  take = functools.partial(_take, batches, count)
  take(_WARM_UP_SECONDS)
  rounds = [take(_ROUND_SECONDS) for _ in range(_ROUNDS)]
  measured = [tokens / seconds for tokens, seconds, _ in rounds]
  row: dict[str, Any] = {
    "tokens_per_second": statistics.median(measured),
    "slowest": min(measured),
    "rows_per_second": statistics.median(n / seconds for _, seconds, n in rounds),
    "batch_tokens": sum(tokens for tokens, _, _ in rounds) / sum(n for _, _, n in rounds),
  }
  some = [next(batches) for _ in range(_DENSITY_BATCHES)]
  row["rows_per_second"] *= len(next(iter(some[0].values())))
  for side, name in converters.PADDED_TOKENS.items():
    if name in some[0]:
      row[f"{side}_density"] = float(np.mean([batch[name] > 0 for batch in some]))
  return row


def filled(batch: Batch) -> int:
  """Returns the tokens of a batch that are not padding."""
  return sum(
    int(np.count_nonzero(batch[name]))
    for name in converters.PADDED_TOKENS.values()
    if name in batch
  )


def dataset_of(examples: Sequence[Mapping[str, np.ndarray]]) -> tf.data.Dataset:
  """Returns examples of arrays [n], of any n, as a dataset that reads them from memory."""
  flat = {}
  for name in examples[0]:
    parts = [example[name] for example in examples]
    starts = np.cumsum([0, *map(len, parts)])
    flat[name] = tf.constant(np.concatenate(parts)), tf.constant(starts)
  return tf.data.Dataset.range(len(examples)).map(
    lambda i: {name: all_[starts[i] : starts[i + 1]] for name, (all_, starts) in flat.items()}
  )


def _take(batches: Iterator[Batch], count: Count, seconds: float) -> tuple[int, float, int]:
  """Takes batches for at least `seconds` and returns (tokens, seconds, batches)."""
  start, tokens, taken = time.perf_counter(), 0, 0
  while time.perf_counter() - start < seconds:
    tokens += count(next(batches))
    taken += 1
  return tokens, time.perf_counter() - start, taken
