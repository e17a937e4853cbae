"""The faults, a file for each kind. ALL has them by name, in the order of the table."""

from tests.soak.faults import kills, signals
from tests.soak.outcomes import Fault

ALL: dict[str, Fault] = {
  fault.name: fault for module in (kills, signals) for fault in module.FAULTS
}
