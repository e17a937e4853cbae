"""A lease on MODEL_DIR: one run writes there at a time, and a dead run loses it by itself.

MODEL_DIR/.lease says who has it. On a local disk, and on network file systems with locks, the file
is also locked: the kernel releases the lock when the process ends, however it ends, so the next run
starts at once. A lock may say nothing: in buckets, on file systems without locks, or about another
machine. There the holder counts as dead if it has not renewed its lease for EXPIRY_SECONDS.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etils import epath

from t5x_style.checkpoints import step_folders
from t5x_style.errors import NO_ROOM, UserError

RENEWAL_SECONDS = 10.0
EXPIRY_SECONDS = 60.0

_NAME = ".lease"
_SIZE = 512  # bytes, so that a renewal overwrites the whole file and needs no more room on a disk
_TEARDOWN_SECONDS = 3.0  # how long a killed process with much memory may need to release its lock
_SETTLING_SECONDS = 2.0  # for two runs that take a lease without a lock at the same time
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class Lease:
  """The lease of this process on a MODEL_DIR, renewed in the background until it is released."""

  def __init__(self, model_dir: epath.PathLike, on_loss: Callable[[str], None]):
    """Takes the lease.

    Args:
      on_loss: called with a message once another run has the lease; it has to end this process. It
        may be called from another thread.

    Raises:
      UserError: another run has the lease; the message says which one.
    """
    self._path = epath.Path(model_dir).expanduser() / _NAME
    self._on_loss = on_loss
    self._own = _this_process()
    self._file: int | None = None
    if step_folders.renames(self._path):
      # Locks of fcntl belong to the process: forked children do not keep them when it is killed.
      self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
      locked = self._lock()
      if not self._is_free(locked):
        self._wait_until_expired()
      self._write_first(locked)
    except BaseException:
      self._close()
      raise
    self._renewed = _now()
    self._released = threading.Event()
    self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
    self._thread.start()

  def confirm(self) -> None:
    """Calls `on_loss` if this process slept, so that its lease expired, and another run has it.

    It costs nothing while the lease is renewed: call it before anything is written.
    """
    if _now() - self._renewed > 2 * RENEWAL_SECONDS:
      with contextlib.suppress(Exception):  # What is written next reports it.
        self._confirm_in_file()

  def release(self) -> None:
    """Gives the lease back; another run can take it at once."""
    self._released.set()
    self._thread.join(RENEWAL_SECONDS)
    with contextlib.suppress(Exception):
      self._own["released"] = True
      self._write()
    self._close()

  def __enter__(self) -> "Lease":
    return self

  def __exit__(self, *_: Any) -> None:
    self.release()

  def _lock(self) -> bool:
    """Locks the file; returns False where the file system has no locks.

    Raises:
      UserError: another process holds the lock.
    """
    if self._file is None:
      return False
    deadline = time.monotonic() + _TEARDOWN_SECONDS
    while True:
      try:
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
      except OSError as error:
        if error.errno in _NO_LOCKS:
          return False
        if error.errno not in (errno.EACCES, errno.EAGAIN):
          raise
      holder = self._read()
      if time.monotonic() > deadline or _lives(holder):
        raise self._held(holder)
      time.sleep(0.1)

  def _write_first(self, locked: bool) -> None:
    """Writes whose lease it is; without a lock another run may do so at the same time.

    Raises:
      UserError: the other one was later and has it.
    """
    try:
      self._write()
    except OSError as error:
      if not locked or error.errno not in NO_ROOM:
        raise  # On a full disk the lock is enough.
    if not locked:
      time.sleep(_SETTLING_SECONDS)
      self._check_not_held(self._read())

  def _is_free(self, locked: bool) -> bool:
    """Returns whether no process has the lease, as far as this machine can tell."""
    holder = self._read()
    if not holder or holder.get("released"):
      return True
    same_kernel = holder.get("boot") == self._own["boot"]
    if same_kernel and (locked or _lives(holder) is False):
      return True
    return self._age() > EXPIRY_SECONDS

  def _wait_until_expired(self) -> None:
    """Waits as long as a holder needs to renew its lease.

    Raises:
      UserError: it did.
    """
    before, deadline = self._read(), time.monotonic() + EXPIRY_SECONDS
    warnings.warn(
      f"Process {before.get('pid')} on the host {before.get('host')!r} was writing to MODEL_DIR; "
      f"this run starts if that one shows no sign of life for {EXPIRY_SECONDS:.0f} seconds.",
      stacklevel=1,
    )
    while time.monotonic() < deadline:
      time.sleep(1)
      now = self._read()
      if now.get("released"):
        return
      if now != before:
        raise self._held(now)

  def _age(self) -> float:
    """Returns the seconds since the file was written, by the clock of its file system."""
    probe = self._path.with_name(f"{_NAME}.{self._own['owner']}")
    probe.write_text("")
    try:
      return probe.stat().mtime - self._path.stat().mtime
    finally:
      probe.unlink()

  def _renew(self) -> None:
    while not self._released.wait(RENEWAL_SECONDS):
      # A full disk or an unreachable server is reported where it hinders training. Errors of
      # buckets are no OSErrors; this thread must not end because of them.
      with contextlib.suppress(Exception):
        self._confirm_in_file()
        self._write()
        self._renewed = _now()

  def _confirm_in_file(self) -> None:
    replaced = False
    if self._file is not None:
      with contextlib.suppress(FileNotFoundError):
        replaced = os.stat(self._path).st_ino != os.fstat(self._file).st_ino
    holder = _parsed(self._path.read_bytes()) if replaced else self._read()
    try:
      self._check_not_held(holder)
    except UserError as error:
      self._on_loss(
        f"{error} This run lost its lease because it slept, or its MODEL_DIR was removed; it has "
        "written nothing since."
      )

  def _check_not_held(self, holder: dict[str, Any]) -> None:
    if holder and holder["owner"] != self._own["owner"]:
      raise self._held(holder)

  def _held(self, holder: dict[str, Any]) -> UserError:
    host, pid = holder.get("host", "unknown"), holder.get("pid", "unknown")
    return UserError(
      f"MODEL_DIR = {str(self._path.parent)!r} is in use: process {pid} on the host {host!r} has "
      f"been writing there since {holder.get('since', 'a moment ago')}. Two runs in one MODEL_DIR "
      f"would damage each other: wait until that one ends, end it (kill {pid} on {host}), or set "
      "another MODEL_DIR."
    )

  def _read(self) -> dict[str, Any]:
    """Returns who has the lease; {} for nobody."""
    if self._file is not None:
      return _parsed(os.pread(self._file, _SIZE, 0))
    return _parsed(self._path.read_bytes()) if self._path.exists() else {}

  def _write(self) -> None:
    self._own["renewals"] += 1
    content = json.dumps(self._own).encode().ljust(_SIZE)
    if self._file is not None:
      os.pwrite(self._file, content, 0)
    else:
      self._path.write_bytes(content)

  def _close(self) -> None:
    if self._file is not None:
      os.close(self._file)  # Unlocks it, too.
      self._file = None


def _parsed(content: bytes) -> dict[str, Any]:
  """Returns the object in a file; {} if it holds none, as while it is being written."""
  try:
    found = json.loads(content)
  except ValueError:
    return {}
  return found if isinstance(found, dict) and "owner" in found else {}


def _this_process() -> dict[str, Any]:
  return {
    "owner": uuid.uuid4().hex,
    "host": socket.gethostname()[:100],
    "pid": os.getpid(),
    "since": datetime.datetime.now().astimezone().isoformat(" ", "seconds"),
    "boot": _first_line("/proc/sys/kernel/random/boot_id"),  # Equal only under one kernel.
    "pids": _pid_namespace(),
    "started": _start_time(os.getpid()),
    "renewals": 0,
  }


def _lives(holder: dict[str, Any]) -> bool | None:
  """Returns whether the process of a lease lives; None if it cannot be seen from here."""
  own = _this_process()
  if not holder or any(holder.get(key) != own[key] for key in ("boot", "pids")) or not own["pids"]:
    return None
  return _start_time(holder["pid"]) == holder["started"] != ""


def _start_time(pid: int) -> str:
  """Returns when a process started, in the kernel's ticks; "" if it has ended."""
  fields = _first_line(f"/proc/{pid}/stat").rpartition(")")[2].split()
  return fields[19] if len(fields) > 19 and fields[0] not in "ZX" else ""


def _pid_namespace() -> str:
  try:
    return os.readlink("/proc/self/ns/pid")
  except OSError:
    return ""


def _first_line(path: str) -> str:
  try:
    return Path(path).read_text().strip()
  except OSError:
    return ""


def _now() -> float:
  """Returns seconds that also count while the machine is suspended, where the system has them."""
  return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
