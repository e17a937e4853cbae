"""Rules that every command follows."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(path.stem for path in (ROOT / "launch").glob("[a-z]*.py"))


def output_of(program, cwd):
  done = subprocess.run(
    [sys.executable, "-P", "-c", f"commands = {COMMANDS!r}\n{program}"],
    cwd=cwd,
    env=os.environ | {"PYTHONPATH": str(cwd)},
    capture_output=True,
    text=True,
    timeout=100,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


IMPORTS = """
import importlib, sys
for name in commands:
  importlib.import_module(f"launch.{name}")
  print(name, *({"jax", "tensorflow"} & set(sys.modules)))
"""


def test_jax_is_imported_after_its_environment_is_set():
  """JAX and TensorFlow read it once, so process.environment.prepare() has to come first."""
  assert output_of(IMPORTS, ROOT).splitlines() == COMMANDS


INSTALLED = """
import importlib, sys
for name in commands:
  module = importlib.import_module(f"t5x_style.launch.{name}")
  try:
    module.main([name, "--help"])
  except SystemExit as exit:
    assert exit.code == 0
from t5x_style.launch.configuration import gin_files
assert "quickstart.gin" in gin_files.shipped_files()
assert "launch" not in {name.partition(".")[0] for name in sys.modules}
"""


def test_commands_run_where_they_are_installed(tmp_path):
  """There the commands and the gin files are inside t5x_style, and help texts name them so."""
  package = tmp_path / "t5x_style"
  package.mkdir()
  for path in (*(ROOT / "t5x_style").iterdir(), ROOT / "launch", ROOT / "gin_configs"):
    (package / path.name).symlink_to(path)
  text = output_of(INSTALLED, tmp_path)
  assert text.count("Flags:") == len(COMMANDS)
  for name in COMMANDS:
    assert f"python -m t5x_style.launch.{name}" in text
  assert "python -m launch." not in text
