"""The command launch.checkpoint: its actions, its flags and its mistakes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from launch import checkpoint
from launch.process.errors import ConfigurationError


def test_help_names_every_action_and_how_it_ends(capsys):
  with pytest.raises(SystemExit):
    checkpoint.main(["checkpoint", "--help"])
  shown = capsys.readouterr().out
  for name in checkpoint.ACTIONS:
    file = Path(checkpoint.__file__).with_name("checkpoints") / f"{name}.py"
    first = file.read_text().splitlines()[0].strip('"')
    words = r"\s+".join(map(re.escape, first.split()))  # Long lines are wrapped.
    assert re.search(rf"^  {name} +{words}$", shown, re.MULTILINE)
  assert "--step" in shown and "Exit codes" in shown and "gin_file" not in shown
  assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "No action is given. Name one of: list, "),
    (["lst", "x"], "There is no action 'lst'. Did you mean 'list'?"),
    (["list"], "list takes one folder, a MODEL_DIR or a step in it; 0 were given."),
    (["list", "x", "y"], "list takes one folder"),
    (["diff", "x", "y", "z"], "diff takes one folder or two folders"),
    (["list", "x", "--all"], "list takes no --all"),
    (["diff", "x", "--last=3"], "diff takes no --last"),
    (["average", "x", "--json"], "average takes no --json"),
    (["list", "x", "--jsn"], "There is no flag --jsn. Did you mean '--json'?"),
    (["list", "no_such_folder"], "'no_such_folder' does not exist; give a MODEL_DIR"),
    (["list", "s3://bucket/run"], "neither a local path nor gs://"),
    (["diff", "x"], "name another folder beside x, or two steps in it"),
    (["diff", "x", "--step=1,2,3"], "diff compares two checkpoints"),
    (["diff", "x", "--step=1,two"], "--step=two is no step"),
    (["diff", "x", "--step=7", "--step=7"], "--step=7 is given twice"),
  ],
)
def test_mistakes(arguments, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ConfigurationError) as caught:
    checkpoint.main(["checkpoint", *arguments])
  assert message in str(caught.value)


def test_it_starts_without_tensorflow_and_takes_no_accelerator():
  program = (
    "import sys\n"
    "from launch import checkpoint\n"
    "try: checkpoint.main(['checkpoint', 'list', 'no_such_folder'])\n"
    "except ValueError: pass\n"
    "from launch.checkpoints import " + ", ".join(checkpoint.ACTIONS) + "\n"
    "import jax\n"
    "assert jax.default_backend() == 'cpu' and jax.config.jax_platforms == 'cpu'\n"
    "assert not {'tensorflow', 'seqio'} & set(sys.modules)\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, timeout=100
  )
  assert done.returncode == 0, done.stderr
