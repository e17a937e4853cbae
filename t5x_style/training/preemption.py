"""Ctrl-C and SIGTERM: the first one saves and stops the training, a second one ends it at once."""

import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopSignal:
  """Turns the first Ctrl-C or SIGTERM into a request for the loop; a second one acts at once.

  Of several processes only one may get the signal, for example when its machine is taken away. All
  of them then stop after the same step: JAX sends the request to the other processes in the
  background, and `at` does not wait for it.
  """

  def __init__(self):
    self.name: str | None = None
    self._previous: dict[int, Any] = {}
    self._several = jax.process_count() > 1

  def __enter__(self) -> "StopSignal":
    # JAX listens to SIGTERM itself where there are several processes.
    numbers = (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is threading.main_thread():
      for number in numbers:
        self._previous[number] = signal.signal(number, self._received)
    return self

  def __exit__(self, *_):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def at(self, step: int) -> str | None:
    """Returns the signal that requests a stop after this step; all processes call it every step."""
    if not self._several:
      return self.name
    if not multihost_utils.reached_preemption_sync_point(step):
      return None
    self.name = self.name or signal.SIGTERM.name
    return self.name

  def _received(self, number, _):
    self.name = signal.Signals(number).name
    signal.signal(number, self._previous[number])
    if self._several:
      signal.raise_signal(signal.SIGTERM)
