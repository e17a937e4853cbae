"""Averages the metrics of steps over a period, and measures the speed of training."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from t5x_style.training.metrics import Metrics, Sums, add, means, shares

Record = Callable[[int, dict[str, float]], None]
Watch = Callable[[int, Metrics], None]


class Meter:
  """Adds up the metrics of each step and makes a record every `log_period` steps.

  The averages, and the count of tokens since the run began, leave out the steps that the guard
  skipped.

  The metrics of step n are read after step n + 1 has been dispatched, so the device never waits for
  the host. What has been added since the last record is part of a checkpoint (`progress`): an
  interrupted run logs the same numbers as one that was not interrupted.
  """

  def __init__(
    self,
    log_period: int,
    record: Record,
    *,
    watch: Watch = lambda step, metrics: None,
    component_names: tuple[str, ...] = (),
    step_flops: float = 0.0,
    peak_flops: float | None = None,
    progress: dict[str, Any] | None = None,
    last: int | None = None,
  ):
    """Starts the clock.

    Args:
      record: called with the step and the values of a record.
      watch: called at every step, with its metrics on the host.
      step_flops: FLOPs of one step.
      peak_flops: FLOP/s of all devices together, None where they are not known.
      progress: what `progress()` returned when the checkpoint was saved; empty for a new run.
      last: a step that has a record in any case: the last one of a stage that another follows.
    """
    progress = progress or {}
    self._log_period, self._record, self._watch, self._last = log_period, record, watch, last
    self._names = component_names
    self._step_flops, self._peak_flops = step_flops, peak_flops
    totals = progress.get("totals")
    self._totals = add(None, Sums(**totals)) if totals else None
    self._latest: dict[str, float] = progress.get("latest", {})
    # Unknown for the whole run if an older version began it.
    self._all_tokens: float | None = progress.get("tokens", None if progress else 0.0)
    self._earlier_seconds = progress.get("seconds", 0.0)
    self._pending: tuple[int, Metrics] | None = None
    self._started = self._mark = time.perf_counter()
    self._paused = self._waited = 0.0
    self._steps = 0
    self._tokens = 0.0

  def add(self, step: int, metrics: Metrics) -> None:
    """Takes the metrics of a step, which may still be computed; reads those of the step before."""
    previous, self._pending = self._pending, (step, metrics)
    self._read(previous)

  def drain(self) -> None:
    """Reads the metrics that are still pending; waits for the device."""
    pending, self._pending = self._pending, None
    self._read(pending)

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """The time spent in this context does not count in tokens per second."""
    self.drain()
    start = time.perf_counter()
    yield
    self._paused += time.perf_counter() - start

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """The context in which the loop waits for a batch; data_wait is its share of the period.

    A wait counts only if the device has completed the previous step when it ends: otherwise the
    device had work all the time. A wait that counts is counted whole, so the device is idle for at
    most that share of the time.
    """
    start = time.perf_counter()
    yield
    if self._pending is None or _completed(self._pending[1]):
      self._waited += time.perf_counter() - start

  @property
  def seconds(self) -> float:
    """Seconds since the run began, without interruptions."""
    return self._earlier_seconds + time.perf_counter() - self._started

  def progress(self) -> dict[str, Any]:
    """Returns JSON for a checkpoint: what resuming the averages needs."""
    totals = self._totals._asdict() if self._totals else {}
    totals = {name: value.tolist() for name, value in totals.items() if value is not None}
    saved = {"totals": totals, "latest": self._latest, "seconds": self.seconds}
    return saved if self._all_tokens is None else saved | {"tokens": self._all_tokens}

  def _read(self, pending):
    if pending is None:
      return
    step, metrics = pending[0], jax.device_get(pending[1])
    self._watch(step, metrics)
    if metrics.updated:
      self._totals = add(self._totals, metrics.sums)
      if self._all_tokens is not None:
        self._all_tokens += float(metrics.sums.tokens)
      self._latest = {
        "learning_rate": float(metrics.learning_rate),
        "grad_norm": float(metrics.grad_norm),
      }
    self._steps += 1
    self._tokens += float(metrics.sums.tokens)
    if step % self._log_period == 0 or step == self._last:
      averages = means(self._totals, self._names) if self._totals else {}
      averages |= shares(self._totals, self._names) if self._totals else {}
      counts = {"skipped_steps": int(metrics.guard.skipped)}
      if spikes := int(metrics.guard.spikes):
        counts["spikes"] = spikes
      if self._all_tokens is not None:
        counts["tokens"] = int(self._all_tokens)
      self._record(step, averages | self._latest | counts | self._speed())
      self._totals, self._latest = None, {}

  def _speed(self):
    now = time.perf_counter()
    elapsed = max(now - self._mark - self._paused, 1e-9)
    values = {"tokens_per_second": self._tokens / elapsed, "data_wait": self._waited / elapsed}
    values["seconds"] = self.seconds
    if self._peak_flops:
      values["mfu"] = self._step_flops * self._steps / elapsed / self._peak_flops
    self._mark, self._paused, self._waited, self._steps, self._tokens = now, 0.0, 0.0, 0, 0.0
    return values


def _completed(metrics: Metrics) -> bool:
  """Returns whether the step has ended that computes these metrics."""
  arrays = [leaf for leaf in jax.tree.leaves(metrics) if isinstance(leaf, jax.Array)]
  return all(array.is_ready() for array in arrays)  # type: ignore[attr-defined]
