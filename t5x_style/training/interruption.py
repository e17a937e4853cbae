"""Ctrl-C and SIGTERM: asked for once, training saves and stops; asked twice, it stops."""

import signal
import threading
from typing import Any


class StopSignal:
  """Turns the first Ctrl-C or SIGTERM into a request the loop reads; the second one is obeyed."""

  def __init__(self):
    self.name: str | None = None
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> "StopSignal":
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGINT, signal.SIGTERM):
        self._previous[number] = signal.signal(number, self._received)
    return self

  def __exit__(self, *_):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _received(self, number, _):
    self.name = signal.Signals(number).name
    signal.signal(number, self._previous[number])
