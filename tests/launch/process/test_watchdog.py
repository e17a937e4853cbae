"""What a process says when it, or another process of its job, dies."""

import subprocess
import sys

import pytest

from launch.process import watchdog
from t5x_style.errors import UserError

LOST = [
  "Gloo all-reduce failed: [external/gloo/transport/tcp/pair.cc:538] Connection closed by peer",
  "Gloo AllGather failed: [external/gloo/unbound_buffer.cc:78] Timed out waiting 30000ms for recv",
  "NCCL operation ncclGroupEnd() failed: remote process exited or there was a network error",
  "Barrier timed out. Id: end::0. This usually happens because a task triggered the barrier late",
  "UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task was preempted",
  "/job:jax_worker/replica:0/task:1 heartbeat timeout. This indicates that the remote task failed",
  "UNAVAILABLE: Socket closed",
]
OTHERS = [
  RuntimeError("no peer access between these two GPUs"),
  RuntimeError("cannot lower optimization_barrier"),
  RuntimeError("NCCL operation ncclCommInitRank() failed: unhandled cuda error, out of memory"),
  RuntimeError("libgloo.so was not found"),
  ConnectionResetError(104, "Connection reset by peer"),
  UserError("The coordination service of the file server is not reachable."),
]


def test_only_errors_of_a_lost_process_are_explained(monkeypatch):
  assert watchdog.explain(RuntimeError(LOST[0])) is None, "there is one process"
  monkeypatch.setattr(watchdog, "_finished", [0])
  for text in LOST:
    for kind in (RuntimeError, ValueError):  # JAX raises both.
      assert "another process of this job is lost" in watchdog.explain(kind(text)), text
  for error in OTHERS:
    assert watchdog.explain(error) is None, error


WATCHED = """
import os, pathlib, signal, sys, threading
from launch.process import watchdog
watchdog.watch()
print("before", flush=True)
(child,) = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
if sys.argv[1] == "all get a signal":
  signal.signal(signal.SIGTERM, lambda *_: None)
  for pid in (int(child), os.getpid()):
    os.kill(pid, signal.SIGTERM)
  os.abort()
if sys.argv[1] == "its watchdog is killed":
  os.kill(int(child), signal.SIGKILL)
  os.waitpid(int(child), 0)
if sys.argv[1] == "dies":
  native = threading.Thread(target=os.abort)  # JAX's own threads do this, too.
  native.start()
  native.join()
watchdog.finished(3)
if sys.argv[1] == "cannot disconnect":
  os.abort()
"""


@pytest.mark.parametrize(
  ("end", "code"),
  [
    ("dies", 76),
    ("finishes", 0),
    ("cannot disconnect", 3),
    ("all get a signal", 76),
    ("its watchdog is killed", 0),
  ],
)
def test_the_watchdog_explains_the_death_of_its_process(end, code):
  done = subprocess.run(
    [sys.executable, "-c", WATCHED, end], capture_output=True, text=True, timeout=100
  )
  assert done.stdout == "before\n"
  explained = "died. Start all processes again" in done.stderr
  assert explained == (end in ("dies", "all get a signal"))
  assert done.returncode == code
