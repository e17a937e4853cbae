"""Ctrl-C and SIGTERM: asked for once, training saves and stops; asked twice, it stops."""

import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopSignal:
  """Turns the first Ctrl-C or SIGTERM into a request the loop reads; the second one is obeyed.

  Of several processes one may be asked alone, as when its machine is taken away. All then stop
  behind the same step: JAX carries the request from process to process in the background, and what
  the loop asks at each step is answered without waiting.
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
    """The signal that asks to stop behind this step; to be called at every step, by all."""
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
