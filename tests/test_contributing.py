"""Paths that README.md and CONTRIBUTING.md name exist, and the worked examples work."""

import os
import re
import shutil
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
  "nadamw",
  "my_run",
  "my_texts/",
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


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
  """A copy of the repository in which the steps of CONTRIBUTING.md were followed."""
  folder = tmp_path_factory.mktemp("clone")
  for name in ("t5x_style", "launch", "gin_configs", "tests", "docs"):
    shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
  for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
    shutil.copy(ROOT / name, folder)
  objective, objective_tests, activation, optimizer = blocks("python")
  objective_gin, optimizer_gin = blocks("gin")
  written = {
    "t5x_style/data/objectives/deshuffling.py": objective,
    "tests/data/objectives/test_deshuffling.py": objective_tests,
    "gin_configs/objectives/deshuffling.gin": objective_gin,
    "gin_configs/runs/optimizers/nadamw.gin": optimizer_gin,
  }
  text = (ROOT / "CONTRIBUTING.md").read_text()
  for name, content in written.items():
    assert f"`{name}`" in text
    (folder / name).write_text(content)
  ops = folder / "t5x_style/models/ops.py"
  before, table, after = ops.read_text().partition("ACTIVATIONS: dict")
  first, brace, lines = after.partition("{\n")
  row = '  "quick_gelu": quick_gelu,\n'
  ops.write_text(f"{before}{activation}\n\n{table}{first}{brace}{row}{lines}")
  with (folder / "t5x_style/training/optimizers.py").open("a") as file:
    file.write(f"\n\n{optimizer}")
  return folder


@pytest.fixture
def run(clone):
  def run(*command):
    done = subprocess.run(
      [sys.executable, "-m", *command],
      cwd=clone,
      env={**os.environ, "PYTHONPATH": str(clone)},
      capture_output=True,
      text=True,
      timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

  return run


@pytest.mark.slow
@pytest.mark.parametrize(
  ("names", "files", "least"),
  [
    (
      "deshuffling or has_a_test or shipped",
      "tests/data/objectives/ tests/test_gin_files.py tests/test_mirror.py "
      "tests/launch/configuration/test_every_setting.py",
      7,
    ),
    ("quick_gelu", "tests/models/test_ops.py", 2),
    (
      "nadamw or recipe or shipped",
      "tests/training/test_optimizers.py tests/training/test_resuming.py tests/test_gin_files.py "
      "tests/launch/configuration/test_every_setting.py",
      7,
    ),
  ],
)
def test_tests_find_what_the_examples_add(names, files, least, run):
  """Nothing but what CONTRIBUTING.md says was written."""
  printed = run("pytest", "-q", "-n0", "-p", "no:cacheprovider", "-k", names, *files.split())
  (passed,) = re.findall(r"(\d+) passed", printed)
  assert int(passed) >= least, printed


@pytest.mark.slow
def test_a_run_with_all_that_the_examples_add(run):
  files = ("quickstart.gin", "objectives/deshuffling.gin", "runs/optimizers/nadamw.gin")
  own = "--gin.config.TransformerConfig.mlp_activations=('quick_gelu', 'linear')"
  given = [*(f"--gin_file={file}" for file in files), own, "--gin.BASE_EMB_DIM=64"]
  assert "deshuffling" in run("launch.train", *given, "--dry_run")
  explained = " ".join(run("launch.train", *given, "--explain").split())
  assert "how much of the first and of the second moment a step keeps" in explained
