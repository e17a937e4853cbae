"""TPU VMs of Google Cloud: slices that are queued, used and deleted through gcloud.

Every slice is a queued resource, which Google creates as soon as there is room for it.
"""

import concurrent.futures
import dataclasses
import json
import re
import shlex
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from t5x_style.errors import UserError

from . import restarts
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
_VM = ("gcloud", "compute", "tpus", "tpu-vm")
_READY = "ACTIVE"
_ON_THE_WAY = ("ACCEPTED", "CREATING", "PROVISIONING", "WAITING_FOR_RESOURCES")
_ON_THE_WAY_OUT = ("SUSPENDING", "DELETING")
_ABSENT = "NOT_FOUND"  # gcloud's error for what does not exist
_POLL_SECONDS = 20.0
_POLLS_THAT_MAY_FAIL = 30  # in a row
_FOLDER = "t5x_style"  # in the home directory of each host
_HOST_SCRIPT = "launch/clusters/tpu_host.sh"
_ROOT = Path(__file__).parents[2]


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


class Tpu:
  """TPU slices under one name in one zone."""

  def __init__(
    self,
    programs: Programs,
    name: str,
    zone: str,
    project: str | None = None,
    slices: Slices | None = None,
  ):
    """Calls nothing yet.

    Args:
      programs: calls gcloud.
      name: of the queued resource, of its only slice, and of its slices with -0, -1 at the end.
      slices: what to create; None where they exist.
    """
    self._programs = programs
    self._name = name
    self._place = [f"--zone={zone}", *([f"--project={project}"] if project else [])]
    self._slices = slices
    self._printed = 0  # lines of the run's output
    self._known = False  # whether gcloud has said how the slices are: its errors may pass then

  def create(self) -> None:
    """Queues the slices."""
    assert self._slices is not None
    slices = self._slices
    nodes = [f"--node-count={slices.count}"] if slices.count > 1 else [f"--node-id={self._name}"]
    capacity = [] if slices.capacity == "on-demand" else [f"--{slices.capacity}"]
    until = [f"--valid-until-duration={slices.valid_until}"] if slices.valid_until else []
    self._programs.run(
      *self._queued("create"),
      *nodes,
      f"--accelerator-type={slices.accelerator_type}",
      f"--runtime-version={SOFTWARE[slices.generation]}",
      *capacity,
      *until,
    )

  def state(self) -> str | None:
    """Returns the state of the queued resource, such as ACTIVE; None if there is none.

    Raises:
      ProgramError: gcloud cannot say.
    """
    words = (*self._queued("describe"), "--format=value(state.state)")
    found = self._programs.answer(*words, absent=_ABSENT)
    return found and found.strip()

  def delete(self) -> None:
    """Deletes the slices and the queued resource: nothing is paid for after that."""
    self._programs.run(*self._queued("delete"), "--force", "--quiet")

  def install(self) -> None:
    """Copies this folder to every host, and installs it there."""
    with tempfile.TemporaryDirectory() as folder:
      archive = Path(folder) / f"{_FOLDER}.tar.gz"
      if not self._programs.dry_run:
        _pack(archive)
      self._on_all(
        [
          [*_VM, "scp", str(archive), f"{node}:{_FOLDER}.tar.gz", "--worker=all", *self._place]
          for node in self._nodes()
        ]
      )
    unpack = f"mkdir -p {_FOLDER} && tar -xzf {_FOLDER}.tar.gz -C {_FOLDER}"
    self._everywhere(f"{unpack} && {_command('install')}")

  def start(self, flags: Sequence[str]) -> None:
    """Starts launch.train on every host, where no run is under way."""
    self._everywhere(_command("start", *flags))
    self._printed = 0

  def follow(self, lines: str | None = None) -> int | None:
    """Prints what the first process prints until the run ends.

    Args:
      lines: how many of the last lines to begin with; None for all that were not printed yet.

    Returns:
      its exit code; None if the connection broke before it ended.
    """
    command = _command("follow", lines or f"+{self._printed + 1}")
    last, count = self._programs.follow(*self._ssh(self._nodes()[0], "0", command))
    self._printed += count
    found = re.fullmatch(r"The run ended with exit code (\d+)\.", last)
    return int(found[1]) if found else None

  def host_state(self) -> str | None:
    """Returns what the first host says: "not installed", "ready", "running", "ended ...".

    None if it cannot be asked: a run may be under way there.
    """
    script = f"{_FOLDER}/{_HOST_SCRIPT}"
    asked = f"if [ -e {script} ]; then {_command('state')}; else echo not installed; fi"
    try:
      told = self._programs.answer(*self._ssh(self._nodes()[0], "0", asked))
    except ProgramError as error:
      print(error)
      return None
    return (told or "").strip() or None

  def stop(self) -> None:
    """Stops the run as Ctrl-C does: all processes save. The slices stay, and are paid for."""
    self._everywhere(_command("stop"))

  def run(self, flags: Sequence[str]) -> int:
    """Creates what is missing, starts the run and follows it; after a preemption, all again.

    Returns:
      the exit code of the run.

    Raises:
      UserError: the slices are missing and cannot be created, or there was no room for them.
    """
    to_install = True  # What is here may be newer. Later starts use the same files.

    def attempt() -> restarts.Ended:
      nonlocal to_install
      began = None
      try:
        self._make_ready()
        state = self.host_state()
        if state is None and not self._programs.dry_run:
          return restarts.Ended(None)
        if state != "running":
          if to_install or state in (None, "not installed"):
            self.install()
          self._everywhere(_command("end"))
          self.start(flags)
        to_install = False
        began = time.monotonic()
        code = self._follow_while_active()
      except ProgramError as error:  # A host that is being taken away, or no network.
        if not self._known:
          raise
        print(error)
        code = None
      return restarts.Ended(code, 0.0 if began is None else time.monotonic() - began)

    return restarts.until_done(attempt, print)

  def _follow_while_active(self) -> int | None:
    """Follows the run, also over connections that break; None once the slices are lost."""
    while True:
      code = self.follow()
      if self._programs.dry_run:
        return 0
      if code is not None:
        return code
      if self._state_later() != _READY:
        return None
      print("The connection broke; the run continues, and is followed again.")
      if self.host_state() not in (
        None,
        "running",
      ):  # The host was restarted, or it ended meanwhile.
        return self.follow()

  def _make_ready(self) -> None:
    """Waits until the slices are active, and creates them where they are missing or were taken.

    Raises:
      ProgramError: gcloud fails.
      UserError: they are missing and are not to be created, or cannot be.
    """
    state = self._wait_while(_ON_THE_WAY_OUT, self.state())
    if state not in (None, _READY, *_ON_THE_WAY):  # SUSPENDED, FAILED: they never come back.
      print(f"{self._name} is {state}: it is deleted and queued again.")
      self.delete()
      state = None
    if state is None:
      if self._slices is None:
        raise UserError(
          f"There is no queued resource {self._name!r}: give --topology=v5e:4x4, for example, to "
          "create it."
        )
      self.create()
      state = self.state()
    self._known = True
    state = self._wait_while(_ON_THE_WAY, state)
    if state != _READY and not self._programs.dry_run:
      raise UserError(
        f"{self._name} is {state or 'deleted'} and never was {_READY}: Google had no room in time, "
        "or refuses it. `gcloud compute tpus queued-resources describe` says why."
      )

  def _wait_while(self, states: Sequence[str], state: str | None) -> str | None:
    """Returns the first state that is none of these; `state` is the present one."""
    shown = None
    while state in states:
      if state != shown:
        print(f"{self._name} is {state}; waiting.")
        shown = state
      state = self._state_later()
    return state

  def _state_later(self) -> str | None:
    """Returns the state after a pause, also if gcloud fails for some minutes.

    Raises:
      ProgramError: it fails for longer.
    """
    for left in reversed(range(_POLLS_THAT_MAY_FAIL)):
      time.sleep(_POLL_SECONDS)
      try:
        return self.state()
      except ProgramError as error:
        if not left:
          raise
        print(error)
    raise AssertionError

  def _nodes(self) -> list[str]:
    """Returns the names of the slices.

    Raises:
      UserError: there are none.
    """
    if self._programs.dry_run:
      count = self._slices.count if self._slices else 1
      return [self._name] if count == 1 else [f"{self._name}-{i}" for i in range(count)]
    text = self._programs.answer(*self._queued("describe"), "--format=json", absent=_ABSENT)
    if text is None:
      raise UserError(f"There is no queued resource {self._name!r} in this zone and project.")
    found = []
    for spec in json.loads(text)["tpu"]["nodeSpec"]:
      several = spec.get("multisliceParams") or {}
      prefix = several.get("nodeIdPrefix") or self._name
      numbered = [f"{prefix}-{i}" for i in range(int(several.get("nodeCount", 0)))]
      found += numbered or [spec["nodeId"]]
    return found

  def _everywhere(self, command: str) -> None:
    self._on_all([self._ssh(node, "all", command) for node in self._nodes()])

  def _on_all(self, calls: Sequence[Sequence[str]]) -> None:
    """Calls programs for all slices at once."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
      jobs = [pool.submit(self._programs.run_quietly, *words) for words in calls]
      for job in jobs:
        job.result()

  def _ssh(self, node: str, worker: str, command: str) -> list[str]:
    return [*_VM, "ssh", node, f"--worker={worker}", *self._place, f"--command={command}"]

  def _queued(self, action: str) -> list[str]:
    return ["gcloud", "compute", "tpus", "queued-resources", action, self._name, *self._place]


def _command(action: str, *arguments: str) -> str:
  """Returns a command for a shell on a host, which reads the arguments again."""
  return f"bash {_FOLDER}/{_HOST_SCRIPT} {shlex.join([action, *arguments])}"


def _pack(archive: Path) -> None:
  """Writes the files of this clone, without those that git ignores.

  Raises:
    UserError: this is no clone.
  """
  words = ["git", "-C", str(_ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
  listed = subprocess.run(words, capture_output=True, text=True)
  names = [name for name in listed.stdout.split("\0") if name and (_ROOT / name).is_file()]
  if listed.returncode or _HOST_SCRIPT not in names:
    raise UserError(f"{_ROOT} is no clone of t5x_style: start this command in one.")
  with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
    for name in names:
      tar.add(_ROOT / name, name)
