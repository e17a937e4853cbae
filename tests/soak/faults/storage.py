"""A disk that is full, permissions that are lost, checkpoints that are deleted, under a run."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from launch.process.exit_codes import ExitCode
from tests.soak.outcomes import Failed, Fault, NotPossible, Outcome
from tests.soak.trial import Process, Trial, last_words

_SIZE = "24m"  # of the file system: enough for the run


def mount(trial: Trial) -> Path:
  """Puts MODEL_DIR on a small file system in memory, and returns its folder.

  Raises:
    NotPossible: this user must not mount any.
  """
  folder = trial.folder / "disk"
  folder.mkdir()
  command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder)]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  if done.returncode:
    raise NotPossible(done.stderr.strip())
  trial.at_end(lambda: subprocess.run(["umount", "--lazy", str(folder)], check=True))
  # What is left on the disk can be looked at after a failure.
  trial.at_end(lambda: shutil.copytree(folder, trial.folder / "disk-at-the-end"))
  trial.model_dir = folder / "model"
  return folder


def fill(folder: Path) -> Path:
  """Writes a file until no byte is left, and returns it."""
  filler = folder / "filler"
  with filler.open("ab", buffering=0) as file:
    for size in (1 << 20, 1 << 12, 1):
      try:
        while True:
          file.write(bytes(size))
      except OSError:
        pass
  return filler


def _full_for_a_while(trial: Trial) -> Outcome:
  """The disk has room again while the run still trains."""
  folder = mount(trial)
  process = trial.start()
  for _ in range(3):
    if trial.trains_until(process, 15):
      filler = fill(folder)
      trial.injected += 1
      time.sleep(trial.random.uniform(0, 0.5))
      filler.unlink()
  return _finish_with_room(trial, process)


def _full_until_it_stops(trial: Trial) -> Outcome:
  """The disk has room again after the run has ended."""
  folder = mount(trial)
  process = trial.start()
  trial.trains_until(process)
  before = trial.steps()
  filler = fill(folder)
  trial.injected += 1
  code = process.wait()
  if code == ExitCode.STORAGE and "Traceback" in process.text():
    raise Failed("a traceback")
  if not set(before[-1:]) <= set(trial.steps()):
    raise Failed(f"checkpoints {before} are {trial.steps()} after a disk was full")
  filler.unlink()
  return _finish_with_room(trial, process)


def _full_at_start(trial: Trial) -> Outcome:
  folder = mount(trial)
  filler = fill(folder)
  trial.injected += 1
  process = trial.start()
  code = process.wait()
  if code not in (ExitCode.STORAGE, ExitCode.MISTAKE) or "Traceback" in process.text():
    raise Failed(f"exit code {code}: {last_words(process.text())}")
  filler.unlink()
  return trial.survived_exactly()


def _finish_with_room(trial: Trial, process: Process) -> Outcome:
  """Starts the run again after the exit code that says that files could not be stored."""
  trial.may_differ = ("failed_saves",)  # Records count them.
  code = process.wait()
  stored = code == ExitCode.FINISHED
  if not stored and code != ExitCode.STORAGE:
    raise Failed(f"exit code {code}: {last_words(process.text())}")
  return trial.survived_exactly(process if stored else None, f"exit code {code}")


# A program that executes the command after it so that it obeys the permissions of files even if it
# belongs to root: without the capability to override them, CAP_DAC_OVERRIDE.
_OBEY = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
_OBEYING = (sys.executable, "-c", _OBEY)


def _permission_lost(trial: Trial) -> Outcome:
  """The folder of checkpoints cannot be written for a while."""
  process = trial.start(through=_OBEYING)
  for _ in range(2):
    if trial.trains_until(process, 20):
      trial.checkpoints.chmod(0o555)
      trial.injected += 1
      time.sleep(trial.random.uniform(0, 0.5))
      trial.checkpoints.chmod(0o755)
  return _finish_with_room(trial, process)


def _permission_lost_until_it_stops(trial: Trial) -> Outcome:
  process = trial.start(through=_OBEYING)
  trial.trains_until(process)
  trial.checkpoints.chmod(0o555)
  trial.injected += 1
  process.wait()
  trial.checkpoints.chmod(0o755)
  return _finish_with_room(trial, process)


def _checkpoints_deleted(trial: Trial) -> Outcome:
  """Only what was saved is lost: the run saves again."""
  process = trial.start()
  for _ in range(2):
    if trial.trains_until(process, 20):
      shutil.rmtree(trial.checkpoints, ignore_errors=True)
      trial.injected += 1
  return _finish_with_room(trial, process)


FAULTS = (
  Fault("disk-full", "the disk is full for up to .5 s", ("exact",), _full_for_a_while),
  Fault("disk-full-long", "the disk is full until the run stops", ("exact",), _full_until_it_stops),
  Fault("disk-full-start", "the disk is full at the start", ("exact",), _full_at_start),
  Fault(
    "permission", "checkpoints/ cannot be written for up to .5 s", ("exact",), _permission_lost
  ),
  Fault(
    "permission-long",
    "checkpoints/ cannot be written until the run stops",
    ("exact",),
    _permission_lost_until_it_stops,
  ),
  Fault("checkpoints-gone", "checkpoints/ is deleted", ("exact",), _checkpoints_deleted),
)
