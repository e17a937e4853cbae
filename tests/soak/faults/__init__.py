"""The faults, a file for each kind. ALL has them by name, in the order of the table."""

from tests.soak.faults import (
  corpus,
  damage,
  hangs,
  kills,
  not_finite,
  output,
  several_processes,
  signals,
  storage,
  writers,
)
from tests.soak.outcomes import Fault

_KINDS = (
  kills,
  signals,
  damage,
  storage,
  not_finite,
  corpus,
  output,
  writers,
  hangs,
  several_processes,
)
ALL: dict[str, Fault] = {fault.name: fault for kind in _KINDS for fault in kind.FAULTS}
