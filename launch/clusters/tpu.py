"""A run on TPU VMs of Google Cloud: installed, started and followed on all hosts through gcloud."""

import concurrent.futures
import io
import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from t5x_style.errors import UserError

from ..process.exit_codes import ExitCode
from . import restarts
from .programs import ProgramError, Programs
from .queued_slices import READY, DeletedError, QueuedSlices
from .run_log import RunLog

_VM = ("gcloud", "compute", "tpus", "tpu-vm")
_POLLS_WITHOUT_SLICES = 6  # of `logs`, while `run` on another machine deletes and queues them
_NO_CONNECTION = 255  # the exit code of ssh
_RUNNING = "running"  # what a host says of its run
_LINES_OF_LOGS = 200  # with which `logs` begins
_FOLDER = "t5x_style"  # in the home directory of each host
_HOST_SCRIPT = "launch/clusters/tpu_host.sh"
_ROOT = Path(__file__).parents[2]


class HostError(ProgramError):
  """A program failed on a host, or the files could not be copied there."""


class Tpu:
  """The hosts of TPU slices, and one run on all of them."""

  def __init__(self, programs: Programs, slices: QueuedSlices):
    """Calls nothing yet; `programs` calls gcloud."""
    self._programs = programs
    self._slices = slices
    self._log = RunLog(programs.say)
    self._packed: bytes | None = None

  def install(self) -> None:
    """Copies this clone to every host, as it was at the first call, and installs it there."""
    if not self._programs.dry_run and self._packed is None:
      self._packed = _pack()
    # A new folder each time: systems empty the folder for temporary files after some days.
    with tempfile.TemporaryDirectory(prefix="launch-cloud-") as folder:
      archive = Path(folder) / f"{_FOLDER}.tar.gz"
      archive.write_bytes(self._packed or b"")
      options = ["--worker=all", *self._slices.place]
      self._on_all(
        [
          [*_VM, "scp", str(archive), f"{node}:{archive.name}", *options]
          for node in self._slices.nodes()
        ]
      )
    unpack = f"mkdir -p {_FOLDER} && tar -xzf {_FOLDER}.tar.gz -C {_FOLDER}"
    self._everywhere(f"{unpack} && {_command('install')}")

  def start(self, flags: Sequence[str]) -> None:
    """Starts launch.train on every host, where no run is under way."""
    self._everywhere(_command("start", *flags))

  def follow(self, lines: int | None = None) -> int | None:
    """Prints what the first process prints until the run ends, over connections that break.

    Args:
      lines: how many of the last lines to begin with; None for all that were not printed yet.

    Returns:
      its exit code; None once the slices are lost, or if there is no run.

    Raises:
      ProgramError: gcloud fails for long.
    """
    request, ended = self._log.request() if lines is None else [str(lines)], False
    while True:
      command = _command("follow", *request)
      code = self._log.read(self._programs.lines(*self._ssh(self._slices.nodes()[0], "0", command)))
      if code is not None or ended or self._programs.dry_run:
        return code
      if self._slices.state_later() != READY:
        return None
      # If it is, the host was restarted, or the run has ended meanwhile.
      ended = self.host_state() not in (None, _RUNNING)
      if not ended:
        self._programs.say("The connection broke; the run continues, and is followed again.")
      request = self._log.request()

  def logs(self) -> int | None:
    """Follows a run until it ends, also when `run` starts it again, here or on another machine.

    Returns:
      its exit code; None if there is no run.

    Raises:
      UserError: the slices do not exist, or no longer.
    """
    under_way = self.host_state() in (None, _RUNNING)
    code = self.follow(_LINES_OF_LOGS)
    while under_way and not self._programs.dry_run:
      if code is not None and restarts.attempts_after(code) != restarts.MOST_ATTEMPTS:
        break
      self._programs.say(
        "It is followed again once `tpu run` has started it again; Ctrl-C ends only this command."
      )
      self._wait_for_a_run()
      code = self.follow()
    return code

  def host_state(self) -> str | None:
    """Returns what the first host says: "not installed", "ready", "running", "ended ...".

    None if it cannot be asked: a run may be under way there.
    """
    script = f"{_FOLDER}/{_HOST_SCRIPT}"
    asked = f"if [ -e {script} ]; then {_command('state')}; else echo not installed; fi"
    try:
      told = self._programs.answer(*self._ssh(self._slices.nodes()[0], "0", asked))
    except ProgramError as error:
      self._programs.say(str(error))
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
    to_install = True  # What is here may be newer.

    def attempt() -> restarts.Ended:
      nonlocal to_install
      code = None
      try:
        self._slices.make_ready()
        state = self.host_state()
        if state is None and not self._programs.dry_run:
          return restarts.Ended(None, self._log.saved_step)
        if state != _RUNNING:
          if to_install or state in (None, "not installed"):
            self.install()
          self._everywhere(_command("end"))
          self.start(flags)
        to_install = False
        code = self.follow()
        if self._programs.dry_run:
          code = ExitCode.FINISHED
      except ProgramError as error:  # A host that is being taken away, no network, a full disk ...
        if not self._slices.known:
          raise
        self._programs.say(str(error))
        on_a_host = isinstance(error, HostError) and error.code != _NO_CONNECTION
        if on_a_host and self._slices.is_ready():
          # One that was replaced lacks what the first one has.
          code, to_install = ExitCode.UNEXPECTED, True
      return restarts.Ended(code, self._log.saved_step)

    try:
      return restarts.until_done(attempt, self._programs.say)
    except DeletedError as error:
      self._programs.say(str(error))
      return ExitCode.INTERRUPTED

  def _wait_for_a_run(self) -> None:
    """Waits until a run is under way that was not followed yet, or has ended already.

    Raises:
      DeletedError: the slices were deleted, and are not queued again.
    """
    absent = 0
    while absent < _POLLS_WITHOUT_SLICES:
      state = self._slices.state_later()
      told = (self.host_state() if state == READY else None) or ""
      if told == _RUNNING or (told.startswith("ended ") and self._log.began not in told):
        return
      absent = 0 if state else absent + 1
    raise self._slices.deleted()

  def _everywhere(self, command: str) -> None:
    self._on_all([self._ssh(node, "all", command) for node in self._slices.nodes()])

  def _on_all(self, calls: Sequence[Sequence[str]]) -> None:
    """Calls programs for all slices at once.

    Raises:
      HostError: one of them fails.
    """
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
      jobs = [pool.submit(self._programs.run_quietly, *words) for words in calls]
      for job in jobs:
        try:
          job.result()
        except ProgramError as error:
          raise HostError(str(error), error.code) from error

  def _ssh(self, node: str, worker: str, command: str) -> list[str]:
    return [*_VM, "ssh", node, f"--worker={worker}", *self._slices.place, f"--command={command}"]


def _command(action: str, *arguments: str) -> str:
  """Returns a command for a shell on a host, which reads the arguments again."""
  return f"bash {_FOLDER}/{_HOST_SCRIPT} {shlex.join([action, *arguments])}"


def _pack() -> bytes:
  """Returns a tar.gz of the files of this clone, without those that git ignores.

  Raises:
    UserError: this is no clone.
  """
  words = ["git", "-C", str(_ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
  listed = subprocess.run(words, capture_output=True, text=True)
  names = [name for name in listed.stdout.split("\0") if name and (_ROOT / name).is_file()]
  if listed.returncode or _HOST_SCRIPT not in names:
    raise UserError(f"{_ROOT} is no clone of t5x_style: start this command in one.")
  packed = io.BytesIO()
  with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
    for name in names:
      tar.add(_ROOT / name, name)
  return packed.getvalue()
