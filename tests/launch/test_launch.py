"""What holds for every command."""

import subprocess
import sys
from pathlib import Path

LAUNCH = Path(__file__).parents[2] / "launch"
COMMANDS = sorted(path.stem for path in LAUNCH.glob("[a-z]*.py"))
PROGRAM = """
import importlib, sys
for name in {commands!r}:
  importlib.import_module(f"launch.{{name}}")
  print(name, *({{"jax", "tensorflow"}} & set(sys.modules)))
"""


def test_jax_is_imported_after_its_environment_is_set():
  """JAX and TensorFlow read the environment once: process.environment.prepare() comes before."""
  program = PROGRAM.format(commands=COMMANDS)
  done = subprocess.run(
    [sys.executable, "-c", program], cwd=LAUNCH.parent, capture_output=True, text=True, timeout=100
  )
  assert done.stdout.splitlines() == COMMANDS, done.stderr
