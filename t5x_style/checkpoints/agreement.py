"""Lets the processes of a job agree, from background threads, whether all of them succeeded.

Collectives of JAX cannot do that: they must run in the same order as the training steps. This uses
the key-value store that JAX's coordination service keeps for a job.
"""

import itertools
import json
from typing import Any

import jax
from jax._src import distributed  # JAX has no public name for the store; Orbax uses this one.

_numbers = itertools.count()
# Process 0 removes an agreement when it begins the one that is so much later. It never gets so far
# ahead of the others: at most the last save of a run makes a few attempts without waiting for them.
_KEPT = 8
_SLICE_MS = 60_000  # of a wait; there is no deadline, because JAX ends a job that lost a process


class Agreement:
  """What the processes of a job say about one piece of work.

  All of them make their agreements in the same order, in their main threads, and then call the same
  methods with the same topics, each topic once. A problem is a text; None means success.
  """

  def __init__(self) -> None:
    number = next(_numbers)
    self._folder = f"t5x_style/agreement/{number}"
    self._alone = jax.process_count() == 1
    if not self._alone and jax.process_index() == 0:
      _store().key_value_delete(f"t5x_style/agreement/{number - _KEPT}/")

  def of_all(self, topic: str, problem: str | None) -> str | None:
    """Returns the first problem of any process, with its number; the same in all processes."""
    if self._alone:
      return problem
    index, count = jax.process_index(), jax.process_count()
    self._set(f"{topic}/{index}", problem)
    if index == 0:
      found = {process: self._get(f"{topic}/{process}") for process in range(count)}
      named = [f"{text} (in process {process})" for process, text in found.items() if text]
      problem = named[0] if named else None
    return self.of_first(topic, problem)

  def of_first(self, topic: str, problem: str | None = None) -> str | None:
    """Returns the problem that process 0 gives; that of the other processes does not count."""
    if self._alone:
      return problem
    if jax.process_index() == 0:
      self._set(topic, problem)
    return self._get(topic)

  def _set(self, key: str, problem: str | None) -> None:
    _store().key_value_set(f"{self._folder}/{key}", json.dumps(problem))

  def _get(self, key: str) -> str | None:
    while True:
      try:
        return json.loads(_store().blocking_key_value_get(f"{self._folder}/{key}", _SLICE_MS))
      except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
          raise


def _store() -> Any:
  return distributed.global_state.client
