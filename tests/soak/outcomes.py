"""What can become of a run that a fault was injected into, and what a fault is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
  from tests.soak.trial import Trial

# exact: the end is that of an undisturbed run, to the bit.
# recovered: training reached its end, and what is lost is as stated: a skipped batch.
# stopped: it ended with one clear message and the exit code for it; nothing that was saved is lost.
Kind = Literal["exact", "recovered", "stopped"]
KINDS: tuple[Kind, ...] = ("exact", "recovered", "stopped")


class Failed(Exception):
  """A run did not survive as it should. The message says how."""


class NotPossible(Exception):
  """This machine does not permit the fault: no file system can be mounted, for example."""


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a run ended that did not fail.

  Attributes:
    kind: what became of it.
    injected: how many times it was harmed.
    trained_again: steps that were trained a second time, because they came after the checkpoint
      from which the run resumed.
    note: what else is worth a line in the table.
  """

  kind: Kind
  injected: int
  trained_again: int
  note: str = ""


@dataclasses.dataclass(frozen=True)
class Fault:
  """A fault, and what has to become of a run that it hits.

  Attributes:
    name: as in --faults.
    about: one sentence.
    expected: the outcomes that are right; every other one is a failure.
    inject: starts and harms a run, and returns what became of it.
  """

  name: str
  about: str
  expected: tuple[Kind, ...]
  inject: Callable[[Trial], Outcome]
