"""Processes that hang end and say where; others do not."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import ctypes, os, sys, threading, time
from t5x_style.reporting import hangs, heartbeat
hangs._BLOCKED_SECONDS = 0.3
hangs._WRITING_SECONDS = 5.0
def end(message):
  print(message, flush=True)
  os._exit(76)
def stuck_in_python():
  threading.Event().wait()
def stuck_in_native_code():
  ctypes.CDLL(None).pause()
def holds_the_gil():
  ctypes.PyDLL(None).pause()
def works():
  for step in range(30):
    pulse.beat("training", step)
    time.sleep(0.1)
def reads():
  print("ready", flush=True)
  sys.stdin.readline()
pulse = heartbeat.Heartbeat()
with hangs.HangWatch(pulse, float(sys.argv[2]) / 60, sys.argv[1], end):
  pulse.beat("saving", 1200)
  globals()[sys.argv[3]]()
print("done")
"""


@pytest.fixture
def start():
  """start(path, seconds, what) starts PROGRAM, which is killed at the end."""
  running = []

  def run(path, seconds, what, errors=subprocess.PIPE):
    command = [sys.executable, "-c", PROGRAM, str(path), str(seconds), what]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True)
    running.append(process)
    return process

  yield run
  for process in running:
    process.kill()
    process.wait()


@pytest.mark.parametrize("what", ["stuck_in_python", "stuck_in_native_code"])
def test_a_hang_ends_the_process_with_the_stacks_of_all_threads(start, tmp_path, what):
  path = tmp_path / "stacks-0.txt"
  process = start(path, 1, what)
  output, errors = process.communicate(timeout=60)
  assert process.returncode == 76
  words = "No progress for 0.0166667 minutes (HANG_MINUTES) while saving at step 1,200"
  assert f"{words}. The stacks of all threads are in {path}. Start" in output
  text = path.read_text()
  assert words in text.splitlines()[0]
  for stacks in (text, errors):
    assert f"in {what}\n" in stacks
    assert "in _watch\n" in stacks  # Other threads, too.


def test_an_interpreter_that_is_blocked_is_ended_as_well(start, tmp_path):
  """No Python code can run: the stacks are only on the standard error, the exit code is 1."""
  process = start(tmp_path / "stacks.txt", 1, "holds_the_gil")
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 1
  assert "in holds_the_gil\n" in errors


def test_a_folder_that_cannot_be_written(start, tmp_path):
  process = start(tmp_path / "nothing/stacks-0.txt", 0.5, "stuck_in_python")
  output, _ = process.communicate(timeout=60)
  place = output.partition("are in ")[2].partition(". Start")[0]
  assert process.returncode == 76
  with open(place) as file:
    assert "in stuck_in_python\n" in file.read()
  os.unlink(place)


def test_a_standard_error_that_nobody_reads(start, tmp_path):
  """A full pipe blocks every write, but not the end of the process."""
  _, writing = os.pipe()
  os.set_blocking(writing, False)
  with pytest.raises(BlockingIOError):
    while True:
      os.write(writing, b"x" * 4096)
  os.set_blocking(writing, True)
  process = start(tmp_path / "stacks.txt", 0.5, "stuck_in_python", errors=writing)
  assert process.wait(60) == 76
  assert "in stuck_in_python\n" in (tmp_path / "stacks.txt").read_text()


def test_a_run_that_works_is_left_alone(start, tmp_path):
  process = start(tmp_path / "stacks.txt", 1, "works")
  assert process.communicate(timeout=60) == ("done\n", "")
  assert os.listdir(tmp_path) == []


def test_a_process_that_was_stopped_has_not_hung(start, tmp_path):
  process = start(tmp_path / "stacks.txt", 4, "reads")
  assert process.stdout.readline() == "ready\n"
  process.send_signal(signal.SIGSTOP)
  time.sleep(4.2)  # Longer than the limit; the blocked interpreter is noticed 0.3 s later.
  process.send_signal(signal.SIGCONT)
  time.sleep(0.5)
  assert process.communicate("\n", timeout=60) == ("done\n", "")
  assert os.listdir(tmp_path) == []
