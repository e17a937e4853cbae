"""Paths that README.md and CONTRIBUTING.md name exist, and the worked example works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(language):
  text = (ROOT / "CONTRIBUTING.md").read_text()
  return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


# Names of files that the reader or a command writes, or that an installation has.
WRITTEN = (
  "deshuffling",
  "my_run",
  "imported/",
  "config.gin",
  "model.gin",
  "t5x_run.gin",
  "tensorboard/",
  "skipped_batches/",
)
INSTALLED = "t5x_style/gin_configs/"


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_paths_in_documents_exist(document):
  places = (ROOT, ROOT / "t5x_style", ROOT / "gin_configs")
  text = (ROOT / document).read_text()
  paths = re.findall(r"`((?:[a-z_0-9]+/)[\w/.]*)`", text) + re.findall(r"[\w/]+\.gin\b(?!_)", text)
  ours = [path for path in paths if not any(x in path for x in (*WRITTEN, INSTALLED))]
  assert [x for x in ours if not any((place / x).exists() for place in places)] == []
  names = re.findall(r"`(\w+\.py)`", text)
  assert [x for x in names if not any((ROOT / "t5x_style").rglob(x))] == []


def test_tests_that_continuous_integration_runs_exist():
  def exists(path, name):
    return path.exists() and (not name or f"def {name}(" in path.read_text())

  tests = re.findall(r"(tests/[\w/]+(?:\.py)?)(?:::(\w+))?", (ROOT / ".ci/run").read_text())
  assert len(tests) > 20
  assert [test for test in tests if not exists(ROOT / test[0], test[1])] == []


@pytest.mark.slow
def test_the_example_objective_feeds_a_model_and_passes_its_tests(tmp_path):
  """As written, but the objective's file is in another folder, as a user's own package is."""
  objective, tests = blocks("python")
  (gin,) = blocks("gin")
  place = "t5x_style.data.objectives.deshuffling"
  assert place in tests and "from t5x_style.data.objectives import deshuffling" in gin
  (tmp_path / "deshuffling.py").write_text(objective)
  (tmp_path / "test_deshuffling.py").write_text(tests.replace(place, "deshuffling"))
  (tmp_path / "conftest.py").write_text((ROOT / "tests/data/conftest.py").read_text())
  (tmp_path / "deshuffling.gin").write_text(
    gin.replace("from t5x_style.data.objectives import deshuffling", "import deshuffling")
  )
  environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}

  def run(*command):
    done = subprocess.run(
      [sys.executable, "-m", *command],
      cwd=tmp_path,
      env=environment,
      capture_output=True,
      text=True,
      timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

  assert "2 passed" in run("pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib")
  shown = run(
    "launch.train", "--gin_file=quickstart.gin", "--gin_file=deshuffling.gin", "--dry_run"
  )
  assert "deshuffling" in shown
