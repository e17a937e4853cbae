"""The command launch.eval: its actions, its flags and its mistakes."""

import re
from pathlib import Path

import pytest

from launch import eval as evaluating
from launch.process.errors import ConfigurationError


def test_help_names_every_action_and_how_it_ends(capsys):
  with pytest.raises(SystemExit):
    evaluating.main(["eval", "--help"])
  shown = capsys.readouterr().out
  for name in evaluating.ACTIONS:
    file = Path(evaluating.__file__).with_name("evaluation") / f"{name}.py"
    first = file.read_text().splitlines()[0].strip('"')
    words = r"\s+".join(map(re.escape, first.split()))  # Long lines are wrapped.
    assert re.search(rf"^  {name} +{words}$", shown, re.MULTILINE)
  assert "--step" in shown and "Exit codes" in shown and "--gin_file" in shown
  assert "dry_run" not in shown and max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "No action is given. Name one of: loss"),
    (["los", "x"], "There is no action 'los'. Did you mean 'loss'?"),
    (["loss"], "loss takes MODEL_DIR; none was given."),
    (["loss", "x", "y"], "loss takes MODEL_DIR; 2 were given."),
    (["loss", "x", "--stp=3"], "There is no flag --stp. Did you mean '--step'"),
    (["loss", "no_such_folder"], "'no_such_folder' does not exist; give a MODEL_DIR"),
  ],
)
def test_mistakes(arguments, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ConfigurationError) as caught:
    evaluating.main(["eval", *arguments])
  assert message in str(caught.value)
