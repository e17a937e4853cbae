"""The lease on MODEL_DIR, between real processes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from t5x_style.checkpoints import lease
from t5x_style.errors import UserError

# Takes the lease and "writes" once for each line that it is sent.
HOLDER = """
import errno, os, sys
from t5x_style.checkpoints import lease
lease.RENEWAL_SECONDS, lease.EXPIRY_SECONDS = 0.2, 2.0
def no_locks(*_):
  raise OSError(errno.ENOLCK, "no locks")
if "no-locks" in sys.argv:
  lease.fcntl.lockf = no_locks
if "other-machine" in sys.argv:
  lease._first_line = lambda path: "another boot"
def lost(text):
  print(text, flush=True)
  os._exit(76)
held = lease.Lease(sys.argv[1], lost)
if "forks" in sys.argv and not os.fork():
  sys.stdin.read()
  os._exit(0)
print("has it", flush=True)
for line in sys.stdin:
  held.confirm()
  print("wrote", flush=True)
held.release()
"""


@pytest.fixture
def hold(tmp_path):
  """hold(*words) starts a process that takes the lease; all are killed at the end."""
  running = []

  def start(*words):
    process = subprocess.Popen(
      [sys.executable, "-c", HOLDER, str(tmp_path), *words],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    running.append(process)
    return process

  yield start
  for process in running:
    process.kill()
    process.wait()


def never(text):
  raise AssertionError(text)


def test_a_second_run_is_refused_at_once_and_told_by_whom(tmp_path, hold):
  first = hold()
  assert first.stdout.readline() == "has it\n"
  start = time.monotonic()
  with pytest.raises(UserError, match=rf"process {first.pid} on the host .* since 20.*kill"):
    lease.Lease(tmp_path, never)
  assert time.monotonic() - start < 1.9
  first.stdin.write("x\n")
  first.stdin.flush()
  assert first.stdout.readline() == "wrote\n"


@pytest.mark.parametrize("words", [(), ("no-locks",), ("forks",)])
def test_a_killed_run_loses_it_at_once(tmp_path, hold, words):
  """Also where the file system has no locks, and where a forked child of the run still lives."""
  first = hold(*words)
  assert first.stdout.readline() == "has it\n"
  first.send_signal(signal.SIGKILL)
  first.wait()
  start = time.monotonic()
  lease.Lease(tmp_path, never).release()
  assert time.monotonic() - start < 1.9


def test_a_run_that_has_ended_leaves_nothing_to_wait_for(tmp_path, hold):
  first = hold("no-locks", "other-machine")
  assert first.stdout.readline() == "has it\n"
  first.stdin.close()
  first.wait()
  lease.Lease(tmp_path, never).release()


def test_a_live_run_on_another_machine_is_seen_by_its_renewals(tmp_path, hold, recwarn):
  """As on a file system whose locks are not seen by other machines."""
  first = hold("no-locks", "other-machine")
  assert first.stdout.readline() == "has it\n"
  with pytest.raises(UserError, match=f"process {first.pid} on the host"):
    lease.Lease(tmp_path, never)
  assert f"Process {first.pid}" in str(recwarn[0].message)


@pytest.mark.slow
def test_a_run_that_died_on_another_machine_expires(tmp_path, hold, monkeypatch, recwarn):
  monkeypatch.setattr(lease, "EXPIRY_SECONDS", 2.0)
  first = hold("no-locks", "other-machine")
  assert first.stdout.readline() == "has it\n"
  first.kill()
  first.wait()
  (tmp_path / ".lease").touch()  # On a busy machine it may be older than it has to be by now.
  start = time.monotonic()
  lease.Lease(tmp_path, never).release()
  assert 1 < time.monotonic() - start < 50
  first = hold("no-locks", "other-machine")
  assert first.stdout.readline() == "has it\n"
  first.kill()
  first.wait()
  old = time.time() - 3600
  os.utime(tmp_path / ".lease", (old, old))
  start = time.monotonic()
  lease.Lease(tmp_path, never).release()
  assert time.monotonic() - start < 1.9


@pytest.mark.slow
def test_a_run_that_slept_while_another_took_over_writes_nothing(tmp_path, hold):
  first = hold("no-locks", "other-machine")
  assert first.stdout.readline() == "has it\n"
  first.send_signal(signal.SIGSTOP)
  second = hold("no-locks")
  assert second.stdout.readline() == "has it\n"
  first.stdin.write("x\n")
  first.stdin.flush()
  first.send_signal(signal.SIGCONT)
  output, _ = first.communicate(timeout=60)
  assert (first.returncode, "wrote" in output) == (76, False)
  assert f"process {second.pid} on the host" in output and "lost its lease" in output
  assert second.poll() is None


def test_a_model_dir_that_another_run_has_replaced_is_lost(tmp_path):
  lost = []
  first = lease.Lease(tmp_path, lost.append)
  (tmp_path / ".lease").unlink()
  first._confirm_in_file()
  assert lost == []
  (tmp_path / ".lease").write_text(json.dumps({"owner": "another", "pid": 1, "host": "h"}))
  first._confirm_in_file()
  assert len(lost) == 1 and "process 1 on the host 'h'" in lost[0]
  first.release()


def test_a_damaged_file_holds_nobody_back(tmp_path):
  (tmp_path / ".lease").write_bytes(b"\xff{")
  lease.Lease(tmp_path, never).release()
  lease.Lease(tmp_path, never).release()
