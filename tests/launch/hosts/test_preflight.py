"""Real processes on this machine are one job, in which hosts are in order or not."""

import os
import socket
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time, types
from launch.process import command, distributed
address, index, ahead, folder = sys.argv[1:]
def main(_):
  distributed.connect(types.SimpleNamespace(
    coordinator_address=address, process_count=2, process_index=int(index)))
  from launch.hosts import preflight
  assert preflight.is_due(None) and not preflight.is_due(False)
  now = time.time
  time.time = lambda: now() + float(ahead)
  preflight.check(folder, lambda text: print(text, flush=True))
  print("ready")
command.run(main)
"""


def run(ahead, folders):
  """Two processes; the clock of the second one is ahead by some seconds."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    address = f"localhost:{probe.getsockname()[1]}"
  started = [
    subprocess.Popen(
      [sys.executable, "-c", PROGRAM, address, str(index), str(index * ahead), str(folder)],
      env={**os.environ, "JAX_PLATFORMS": "cpu"},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index, folder in enumerate(folders)
  ]
  outputs = [process.communicate(timeout=200) for process in started]
  return [process.returncode for process in started], *zip(*outputs, strict=True)


@pytest.mark.slow
def test_hosts_that_must_not_start_are_named_by_all(tmp_path):
  """One clock is wrong, and MODEL_DIR is another folder on each host."""
  folders = [tmp_path / "a", tmp_path / "b"]
  for folder in folders:
    folder.mkdir()
  codes, outputs, errors = run(ahead=100, folders=folders)
  assert codes == [2, 2], errors
  host = socket.gethostname()
  for index, (output, error) in enumerate(zip(outputs, errors, strict=True)):
    assert "Preflight of 2 processes in " in output and "ready" not in output
    lines = [line for line in error.splitlines() if line.startswith("  Host ")]
    assert [line.partition(")")[0] for line in lines] == [
      f"  Host '{host}' (process {i}" for i in (1, 0, 1)
    ]
    assert "has a clock that is 100." in lines[0] or "has a clock that is 99." in lines[0]
    assert f"wrote to MODEL_DIR = '{folders[index]}'" in lines[1]
    assert "--nopreflight starts without these checks." in error
  assert [list(folder.iterdir()) for folder in folders] == [[], []]


@pytest.mark.slow
def test_hosts_that_are_in_order(tmp_path):
  codes, outputs, errors = run(ahead=0, folders=[tmp_path, tmp_path])
  assert codes == [0, 0], errors
  assert [output.endswith("ready\n") for output in outputs] == [True, True]
  assert list(tmp_path.iterdir()) == []
