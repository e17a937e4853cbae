"""Signals are answered at once, also while native code runs; each process here is a real one."""

import signal
import subprocess
import sys
import time

import pytest

START = """
import contextlib, hashlib, os, signal, sys, time
from launch.process import command, signals

def native():
  "Python calls no handler before this is done, which takes minutes."
  print("ready", flush=True)
  hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

def main(argv):
  with signals.Listener(release=lambda: print("released", flush=True)) as listener:
    {body}

command.run(main)
"""


class Process:
  def __init__(self, body):
    program = START.format(body=body.strip().replace("\n", "\n    "))
    self._process = subprocess.Popen(
      [sys.executable, "-c", program],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    assert self._process.stdout.readline() == "ready\n"

  def send(self, number):
    self._process.send_signal(number)

  def send_until_end(self, number):
    while self._process.poll() is None:
      self._process.send_signal(number)
      time.sleep(0.05)

  def line(self):
    """Returns the next line of its standard error that is not empty."""
    return self._process.stderr.readline().strip() or self._process.stderr.readline().strip()

  def end(self):
    """Returns the exit code, and what is left of its output and errors."""
    try:
      output, errors = self._process.communicate(timeout=60)
    finally:
      self._process.kill()
    return self._process.returncode, output, errors.strip()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_before_the_first_step_there_is_nothing_to_save(name):
  process = Process("native()")
  process.send(signal.Signals[name])
  assert process.end() == (
    75,
    "released\n",
    f"Stopped by {name} before the first step: nothing is lost.",
  )


TRAINING = """
signal.signal(signal.SIGTERM, lambda *_: None)  # The training's own handler.
with listener.training({grace}, newest=lambda: {newest}):
  native()
"""


def test_a_save_that_takes_longer_than_the_grace_period_is_reported_and_continues():
  process = Process(TRAINING.format(grace=0.1, newest="1200"))
  process.send(signal.SIGTERM)
  assert process.line() == (
    "warning: the grace period of 0.1 seconds after SIGTERM is over, and the run is still saving, "
    "with step 1,200 as its newest checkpoint. If it is killed now, it resumes from there."
  )
  process.send(signal.SIGTERM)  # Delivered twice, as launchers may do: nothing happens.
  time.sleep(2)
  process.send(signal.SIGTERM)
  code, _, errors = process.end()
  assert code == 143
  assert errors == (
    "A second SIGTERM ended the run at once, with step 1,200 as its newest checkpoint."
  )


def test_a_save_within_the_grace_period_is_not_reported():
  process = Process(TRAINING.format(grace=1000, newest="None"))
  process.send(signal.SIGTERM)
  # Another kind: a machine that shuts down sends both. The kernel may join two that follow closely.
  process.send_until_end(signal.SIGHUP)
  code, _, errors = process.end()
  assert code == 128 + signal.SIGHUP
  assert errors == "A second SIGHUP ended the run at once, without a checkpoint."


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_at_the_end_the_code_is_that_of_the_run(name):
  process = Process("signal.signal(signal.SIGINT, lambda *_: None)\nlistener.at_end(0)\nnative()")
  process.send(signal.Signals[name])
  code, _, errors = process.end()
  assert (code, errors) == (0, f"{name} ended the summary of the run; all is saved.")


def test_a_forked_child_keeps_the_usual_handlers():
  process = Process("""
import warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of a fork with threads.
reading, writing = os.pipe()
child = os.fork()
if not child:
  os.write(writing, b"forked")
  time.sleep(100)
  os._exit(0)
os.read(reading, 6)
os.kill(child, signal.SIGTERM)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
print("ready", flush=True)
""")
  assert process.end() == (0, "", "")


def test_under_nohup_the_loss_of_a_terminal_is_ignored():
  process = Process("""
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with signals.Listener(release=lambda: None):
  os.kill(os.getpid(), signal.SIGHUP)
print("ready", flush=True)
""")
  assert process.end() == (0, "", "")
