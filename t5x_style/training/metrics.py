"""Metrics on their way from the device to the log: read one step late, averaged over a period."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from t5x_style.training.evaluation import Values, add_sums, means

Record = Callable[[int, dict[str, float]], None]


class Meter:
  """Adds up the sums of each step and hands a record over every `log_period` steps.

  The sums of step n are read when step n + 1 has been dispatched, so the device never waits for
  the host. What has been added since the last record is part of a checkpoint (`progress`): an
  interrupted run logs the same numbers as one that was not.
  """

  def __init__(
    self,
    log_period: int,
    record: Record,
    *,
    check: Record = lambda step, values: None,
    component_names: tuple[str, ...] = (),
    step_flops: float = 0.0,
    peak_flops: float | None = None,
    progress: dict[str, Any] | None = None,
  ):
    """Starts the clock.

    Args:
      record: called with the step and its values.
      check: called at every step, with the values that tell whether it went well.
      step_flops: FLOPs of one step; peak_flops: of all devices together, None where not known.
      progress: what `progress()` gave when the checkpoint was saved.
    """
    progress = progress or {}
    self._log_period, self._record, self._check = log_period, record, check
    self._names = component_names
    self._step_flops, self._peak_flops = step_flops, peak_flops
    self._totals: Values = {}
    add_sums(self._totals, progress.get("totals", {}))
    self._earlier_seconds = progress.get("seconds", 0.0)
    self._pending: tuple[int, Any] | None = None
    self._started = self._mark = time.perf_counter()
    self._paused = self._waited = 0.0
    self._steps = 0
    self._tokens = 0.0

  def add(self, step: int, sums: Any) -> None:
    """Takes the (perhaps still running) sums of a step; reads those of the step before."""
    previous, self._pending = self._pending, (step, sums)
    self._read(previous)

  def drain(self) -> None:
    """Reads what is still pending: waits for the device."""
    pending, self._pending = self._pending, None
    self._read(pending)

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Time spent inside counts neither as training nor against tokens per second."""
    self.drain()
    start = time.perf_counter()
    yield
    self._paused += time.perf_counter() - start

  @contextlib.contextmanager
  def waiting(self) -> Iterator[None]:
    """For the next batch. The record's data_wait is the share of the period's time spent inside.

    But for the first of a run and after pauses the device has a step to do meanwhile: it stands
    idle for data for at most that share.
    """
    start = time.perf_counter()
    yield
    self._waited += time.perf_counter() - start

  @property
  def seconds(self) -> float:
    """Since the run began, interruptions left out."""
    return self._earlier_seconds + time.perf_counter() - self._started

  def progress(self) -> dict[str, Any]:
    """JSON for a checkpoint."""
    totals = {name: value.tolist() for name, value in self._totals.items()}
    return {"totals": totals, "seconds": self.seconds}

  def _read(self, pending):
    if pending is None:
      return
    step, sums = pending
    sums = jax.device_get(sums)
    latest = {name: float(sums.pop(name)) for name in ("learning_rate", "grad_norm")}
    losses = {name: float(sums[name]) for name in ("loss", "pair_loss") if name in sums}
    self._check(step, losses | latest)
    add_sums(self._totals, sums)
    self._steps += 1
    self._tokens += float(sums["tokens"])
    if step % self._log_period == 0:
      self._record(step, means(self._totals, self._names) | latest | self._speed())
      self._totals = {}

  def _speed(self):
    now = time.perf_counter()
    elapsed = max(now - self._mark - self._paused, 1e-9)
    values = {"tokens_per_second": self._tokens / elapsed, "data_wait": self._waited / elapsed}
    values["seconds"] = self.seconds
    if self._peak_flops:
      values["mfu"] = self._step_flops * self._steps / elapsed / self._peak_flops
    self._mark, self._paused, self._waited, self._steps, self._tokens = now, 0.0, 0.0, 0, 0.0
    return values
