"""TPU slices as Google Cloud queues them: created as soon as there is room, and deleted.

The slices of a job are one queued resource, which gcloud creates, describes and deletes.
"""

import dataclasses
import functools
import json
import shlex
import time
from collections.abc import Callable, Sequence

from t5x_style.errors import UserError

from .programs import ProgramError, Programs

# Google's "TPU software versions".
SOFTWARE = {
  "v4": "tpu-ubuntu2204-base",
  "v5e": "v2-alpha-tpuv5-lite",
  "v5p": "v2-alpha-tpuv5",
  "v6e": "v2-alpha-tpuv6e",
}
# What accelerator types begin with, and what they count for each chip: cores, or chips.
_TYPES = {"v4": ("v4", 2), "v5e": ("v5litepod", 1), "v5p": ("v5p", 2), "v6e": ("v6e", 1)}
READY = "ACTIVE"
_ON_THE_WAY = ("ACCEPTED", "CREATING", "PROVISIONING", "WAITING_FOR_RESOURCES")
_ON_THE_WAY_OUT = ("SUSPENDING", "DELETING")
_ABSENT = "NOT_FOUND"  # gcloud's error for what does not exist
_POLL_SECONDS = 20.0
_POLLS_THAT_MAY_FAIL = 30  # in a row


@dataclasses.dataclass(frozen=True)
class Slices:
  """What to create.

  Attributes:
    topology: of one slice, as in "v5e:4x4".
    count: how many slices.
    chips: of one slice.
    capacity: "on-demand", "spot" or "reserved".
    valid_until: how long to wait for room, as gcloud writes it, such as "6h"; None for ever.
  """

  topology: str
  chips: int
  count: int = 1
  capacity: str = "on-demand"
  valid_until: str | None = None

  @property
  def generation(self) -> str:
    return self.topology.partition(":")[0]

  @property
  def accelerator_type(self) -> str:
    """What Google calls such a slice: v5litepod-16 for v5e:4x4."""
    prefix, per_chip = _TYPES[self.generation]
    return f"{prefix}-{self.chips * per_chip}"


class DeletedError(UserError):
  """Somebody deleted the slices."""


class QueuedSlices:
  """The slices under one name in one zone.

  Attributes:
    name: of the queued resource, of its only slice, and of its slices with -0, -1 at the end.
    place: the flags of gcloud that say where they are.
    known: whether gcloud has said how they are: its errors may pass then.
    last_state: of the queued resource, as far as is known; None if there is none.
  """

  def __init__(
    self,
    programs: Programs,
    name: str,
    zone: str,
    project: str | None = None,
    slices: Slices | None = None,
  ):
    """Calls nothing yet; `programs` calls gcloud, `slices` is None where they exist."""
    self._programs = programs
    self.name = name
    self.place = [f"--zone={zone}", *([f"--project={project}"] if project else [])]
    self._slices = slices
    self.known = False
    self._exists = False  # whether there was a queued resource, which this object did not delete
    self.last_state: str | None = None

  def create(self) -> None:
    """Queues the slices.

    Raises:
      ProgramError: gcloud refuses.
    """
    assert self._slices is not None
    slices = self._slices
    nodes = [f"--node-count={slices.count}"] if slices.count > 1 else [f"--node-id={self.name}"]
    capacity = [] if slices.capacity == "on-demand" else [f"--{slices.capacity}"]
    until = [f"--valid-until-duration={slices.valid_until}"] if slices.valid_until else []
    self.last_state = _ON_THE_WAY[0]  # Also if the call is interrupted: Google may have it.
    try:
      self._programs.run(
        *self._queued("create"),
        *nodes,
        f"--accelerator-type={slices.accelerator_type}",
        f"--runtime-version={SOFTWARE[slices.generation]}",
        *capacity,
        *until,
      )
    except UserError as error:
      self.last_state = None
      if isinstance(error, ProgramError):
        self.is_ready()  # Asks for the state: only the answer to the call may be lost.
      raise
    self._exists = True

  def state(self) -> str | None:
    """Returns the state of the queued resource, such as ACTIVE; None if there is none.

    Raises:
      ProgramError: gcloud cannot say.
    """
    words = (*self._queued("describe"), "--format=value(state.state)")
    found = self._programs.answer(*words, absent=_ABSENT)
    self.last_state = found and found.strip()
    self._exists |= self.last_state is not None
    return self.last_state

  def delete(self) -> None:
    """Deletes the slices and the queued resource: nothing is paid for after that."""
    self._programs.run(*self._queued("delete"), "--force", "--quiet")
    self._exists, self.last_state = False, None

  def what_remains(self) -> str:
    """Returns what is left, what it costs and how to delete it; "" if nothing is known to be."""
    state = self.last_state
    if state is None or self._programs.dry_run:
      return ""
    delete = f"python -m launch.cloud tpu delete {shlex.join([self.name, *self.place])}"
    if state in _ON_THE_WAY:
      return (
        f"{self.name} stays queued; once Google creates it, it is paid for. To delete it: {delete}"
      )
    if state in (READY, *_ON_THE_WAY_OUT):
      return f"{self.name} stays, and is paid for. To delete it: {delete}"
    return f"{self.name} stays {state}, which costs nothing. To delete it: {delete}"

  def make_ready(self) -> None:
    """Waits until the slices are active, and creates them where they are missing or were taken.

    Raises:
      ProgramError: gcloud fails.
      DeletedError: somebody else deleted them.
      UserError: they are missing and are not to be created, or cannot be.
    """
    state = self._patient_state() if self.known else self.state()
    state = self._wait_while(_ON_THE_WAY_OUT, state)
    if state not in (None, READY, *_ON_THE_WAY):  # SUSPENDED, FAILED: they never come back.
      self._check_topology(f"{self.name} is {state}", "have it deleted and queued again")
      self._programs.say(f"{self.name} is {state}: it is deleted and queued again.")
      self.delete()
      state = None
    if state is None:
      if self._exists and self.known:
        raise self.deleted()
      self._check_topology(f"There is no queued resource {self.name!r}", "create it")
      self.create()
      self.known = True
      state = self._patient_state()
    if self._slices is None and not self.known:
      self._programs.say(
        f"Google may take {self.name} back: only with --topology it is queued again."
      )
    self.known = True
    state = self._wait_while(_ON_THE_WAY, state)
    if self._programs.dry_run or state == READY:
      return
    if state in (None, *_ON_THE_WAY_OUT):
      raise self.deleted()
    raise UserError(
      f"{self.name} is {state} and never was {READY}: Google had no room in time, or refuses it. "
      "`gcloud compute tpus queued-resources describe` says why."
    )

  def _check_topology(self, why: str, needed_to: str) -> None:
    """Raises UserError where this object does not know what to create."""
    if self._slices is None:
      raise UserError(f"{why}: give --topology=v5e:4x4, for example, to {needed_to}.")

  def _wait_while(self, states: Sequence[str], state: str | None) -> str | None:
    """Returns the first state that is none of these; `state` is the present one."""
    shown = None
    while state in states:
      if state != shown:
        self._programs.say(f"{self.name} is {state}; waiting.")
        shown = state
      state = self.state_later()
    return state

  def state_later(self) -> str | None:
    """Returns the state after a pause, also if gcloud fails for some minutes."""
    time.sleep(_POLL_SECONDS)
    return self._patient_state()

  def _patient_state(self) -> str | None:
    return self._patiently(self.state)

  def _patiently(self, ask: Callable[[], str | None]) -> str | None:
    """Returns the answer, also if gcloud fails for some minutes.

    Raises:
      ProgramError: it fails for longer.
    """
    for _ in range(_POLLS_THAT_MAY_FAIL - 1):
      try:
        return ask()
      except ProgramError as error:
        self._programs.say(str(error))
        time.sleep(_POLL_SECONDS)
    return ask()

  def is_ready(self) -> bool:
    """Returns whether the slices are active and gcloud says so."""
    try:
      return self.state() == READY
    except ProgramError as error:
      self._programs.say(str(error))
      return False

  def nodes(self) -> list[str]:
    """Returns the names of the slices; of known ones also if gcloud fails for some minutes.

    Raises:
      ProgramError: gcloud cannot say.
      UserError: there are none.
    """
    if self._programs.dry_run:
      count = self._slices.count if self._slices else 1
      return [self.name] if count == 1 else [f"{self.name}-{i}" for i in range(count)]
    words = (*self._queued("describe"), "--format=json")
    ask = functools.partial(self._programs.answer, *words, absent=_ABSENT)
    text = self._patiently(ask) if self._exists else ask()
    if text is None:
      if self._exists:
        raise self.deleted()
      raise UserError(f"There is no queued resource {self.name!r} in this zone and project.")
    described, found = json.loads(text), []
    self._exists, self.last_state = True, described["state"]["state"]
    for spec in described["tpu"]["nodeSpec"]:
      several = spec.get("multisliceParams") or {}
      prefix = several.get("nodeIdPrefix") or self.name
      numbered = [f"{prefix}-{i}" for i in range(int(several.get("nodeCount", 0)))]
      found += numbered or [spec["nodeId"]]
    return found

  def deleted(self) -> DeletedError:
    """Returns the error for slices that somebody else deleted."""
    return DeletedError(f"{self.name} was deleted meanwhile: the run is not started again.")

  def _queued(self, action: str) -> list[str]:
    return ["gcloud", "compute", "tpus", "queued-resources", action, self.name, *self.place]
