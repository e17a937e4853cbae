"""launch.preflight alone, and in jobs of several processes with other versions or settings."""

import os
import socket
import subprocess
import sys

import pytest

from launch import preflight
from launch.process.errors import ConfigurationError


def test_one_machine(tmp_path, capsys):
  folder = tmp_path / "model"
  (tmp_path / "run.gin").write_text(f"MODEL_DIR = '{folder}'\n")
  preflight.main(["preflight", f"--gin_file={tmp_path / 'run.gin'}", "--devices=1"])
  output = capsys.readouterr().out
  assert output.startswith("Preflight of 1 process in ")
  assert output.endswith("All hosts are ready.\n")
  assert list(folder.iterdir()) == []


def test_other_devices_than_expected():
  with pytest.raises(ConfigurationError, match="  The job has 1 device in 1 process, not 32"):
    preflight.main(["preflight", "--devices=32"])


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["version", "setting"])
def test_a_process_with_another_version_or_setting_is_refused(tmp_path, fault):
  (tmp_path / "optax-0.0.1.dist-info").mkdir()
  (tmp_path / "optax-0.0.1.dist-info/METADATA").write_text(
    "Metadata-Version: 2.1\nName: optax\nVersion: 0.0.1\n"
  )
  (tmp_path / "run.gin").write_text(f"MODEL_DIR = '{tmp_path / 'model'}'\nTRAIN_STEPS = 1\n")
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  command = [sys.executable, "-m", "launch.preflight", f"--gin_file={tmp_path / 'run.gin'}"]
  command += [f"--coordinator_address=localhost:{port}", "--process_count=2"]
  paths = ["", tmp_path if fault == "version" else ""]
  (tmp_path / "last.gin").write_text("TRAIN_STEPS = 2\n")
  last = [f"--gin_file={tmp_path / 'last.gin'}"] if fault == "setting" else []
  started = [
    subprocess.Popen(
      [*command, f"--process_index={index}", *(last if index else [])],
      env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{path}:{os.environ['PYTHONPATH']}"},
      stderr=subprocess.PIPE,
      text=True,
    )
    for index, path in enumerate(paths)
  ]
  errors = [process.communicate(timeout=200)[1] for process in started]
  assert [process.returncode for process in started] == [2, 2], errors
  words = {
    "version": "0.0.1 in process 1",
    "setting": "  TRAIN_STEPS: 1 in process 0, 2 in process 1",
  }
  assert all(words[fault] in error for error in errors), errors
  assert f"process 0 runs on {socket.gethostname()}, " in errors[0]
