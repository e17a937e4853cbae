"""Ctrl-C, SIGTERM, SIGHUP: the first one saves and ends the training, a second one acts at once."""

import ctypes
import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils

# SIGHUP says that the terminal is gone; under nohup it is ignored, and stays so.
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignal:
  """Turns the first signal into a request for the loop; the same one again acts at once.

  Of several processes only one may get the signal, for example when its machine is taken away. All
  of them then stop at the same place of the program: JAX sends the request to the other processes
  in the background, and `requested` does not wait for it.

  Attributes:
    agreed: the signal for which all processes stop, None until then.
  """

  def __init__(self):
    self.agreed: str | None = None
    self._received_name: str | None = None
    self._previous: dict[int, Any] = {}
    self._calls = 0
    self._several = jax.process_count() > 1
    self._handler_of_jax = 0

  def __enter__(self) -> "StopSignal":
    if threading.current_thread() is threading.main_thread():
      if self._several:  # JAX listens to SIGTERM itself: its handler is called by ours.
        self._handler_of_jax = _set_handler(signal.SIGTERM, int(signal.SIG_IGN))
      for number in _NUMBERS:
        if signal.getsignal(number) != signal.SIG_IGN:
          self._previous[number] = signal.signal(number, self._received)
    return self

  def __exit__(self, *_):
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    if self._handler_of_jax:
      _set_handler(signal.SIGTERM, self._handler_of_jax)

  def requested(self) -> str | None:
    """Returns the signal that requests a stop now, None if there is none.

    All processes have to call it at the same places of the program, equally often.
    """
    if self.agreed:
      return self.agreed
    if not self._several:
      self.agreed = self._received_name
    else:
      self._calls += 1
      if multihost_utils.reached_preemption_sync_point(self._calls):
        self.agreed = self._received_name or signal.SIGTERM.name
    return self.agreed

  def _received(self, number, _):
    self._received_name = self._received_name or signal.Signals(number).name
    signal.signal(number, self._previous[number])
    if self._handler_of_jax:
      ctypes.CFUNCTYPE(None, ctypes.c_int)(self._handler_of_jax)(signal.SIGTERM)


def _set_handler(number: int, address: int) -> int:
  """Sets the C function that handles a signal; returns the one before, 0 if there was none.

  Python's module `signal` does not show a handler that native code has set.
  """
  function = ctypes.CDLL(None).signal
  function.argtypes, function.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
  before = function(number, address) or 0
  return before if before > int(signal.SIG_IGN) else 0
