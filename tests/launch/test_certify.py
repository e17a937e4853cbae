"""The command launch.certify: what it shows and refuses, and that a kill loses little."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import certify
from launch.certification import catalogue
from launch.process.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


def test_help_names_every_recipe(capsys):
  with pytest.raises(SystemExit):
    certify.main(["certify", "--help"])
  shown = capsys.readouterr().out
  assert all(f"  {name} " in shown for name in catalogue.ABOUT)
  assert "--text" in shown and "--gin.NAME=VALUE" in shown and "Exit codes" in shown
  assert max(map(len, shown.splitlines())) <= 100


def test_a_misspelt_recipe_is_refused():
  with pytest.raises(ConfigurationError, match="no recipe 'twin_t6'. Did you mean 'twin_t5'"):
    certify.main(["certify", "twin_t6"])


def test_a_certificate_is_written_to_a_local_folder():
  with pytest.raises(ConfigurationError, match="gs://bucket/x is no local folder"):
    certify.main(["certify", "--to=gs://bucket/x"])


def test_recipes_that_cannot_run_here_do_not_fail(tmp_path, capsys):
  names = ["nanogpt_gpu", "geglu", "gpt2_fineweb"]
  assert certify.main(["certify", *names, f"--to={tmp_path}"]) == 0
  shown = capsys.readouterr().out
  assert "made-up text, cpu, jax " in shown and "needs FineWeb" in shown
  assert "needs a GPU" in shown and "needs --text=FILE with tiny Shakespeare" in shown
  written = json.loads((tmp_path / "certificate.json").read_text())
  assert [x["name"] for x in written["recipes"]] == names
  assert {x["verdict"] for x in written["recipes"]} == {"not run"}
  assert written["packages"]["jax"] in shown


@pytest.mark.slow
def test_a_killed_certificate_resumes_and_passes(tmp_path):
  """Killed between its two checkpoints; the next start trains only what is missing."""
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  command = [sys.executable, "-m", "launch.certify", "twin_gpt2", f"--to={tmp_path}"]
  start = lambda: subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
  records = tmp_path / "twin_gpt2/run/metrics.jsonl"
  checkpoint = tmp_path / "twin_gpt2/run/checkpoints/250"
  process = start()
  while process.poll() is None and not (checkpoint.exists() and len(losses(records)) > 260):
    time.sleep(0.05)
  os.kill(process.pid, signal.SIGKILL)
  process.communicate()
  assert 260 < len(losses(records)) < 500
  saved = checkpoint.stat().st_mtime_ns

  process = start()
  shown, _ = process.communicate(timeout=600)
  assert process.returncode == 0, shown
  assert len(losses(records)) == 500 and checkpoint.stat().st_mtime_ns == saved
  (line,) = json.loads((tmp_path / "certificate.json").read_text())["recipes"]
  assert line["verdict"] == "passed" and line["difference"] < 1e-4
  assert line["details"]["losses_here"] == losses(records)

  process = start()
  shown, _ = process.communicate(timeout=600)
  assert process.returncode == 0 and "was finished before" in shown


def losses(path):
  if not path.exists():
    return []
  lines = path.read_text().splitlines(keepends=True)
  records = [json.loads(line) for line in lines if line.endswith("\n")]
  return [x["loss"] for x in records if x["split"] == "train"]
