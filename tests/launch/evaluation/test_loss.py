"""launch.eval loss: what training wrote at the same step, and what cannot be measured."""

import math
import shutil
from pathlib import Path

import pytest

from launch.process.errors import ConfigurationError
from tests import tiny
from tests.checkpoints import damages


@pytest.fixture
def copy(random_run, tmp_path):
  return Path(shutil.copytree(random_run, tmp_path / "run"))


def test_every_step_has_the_figures_that_training_wrote(random_run, run):
  code, found = run("loss", random_run, "--all_steps", "--json")
  written = tiny.records(random_run, "validation")
  assert code == 0 and [x["step"] for x in found["steps"]] == [2, 4, 6]
  for record, expected in zip(found["steps"], written, strict=True):
    assert record["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert record["accuracy"] == pytest.approx(expected["accuracy"], rel=1e-6)
    assert record["perplexity"] == pytest.approx(math.exp(expected["loss"]), rel=1e-6)
  assert (found["batches"], found["rows"], found["compressors"]) == (2, 16, None)


def test_the_newest_step_is_measured_unless_others_are_named(random_run, run):
  (newest,) = run("loss", random_run, "--json")[1]["steps"]
  assert newest["step"] == 6
  (one,) = run("loss", random_run / "checkpoints" / "4", "--json")[1]["steps"]
  named = run("loss", random_run, "--step=6,4", "--json")[1]["steps"]
  assert named == [newest, one]


def test_other_settings_measure_other_data(random_run, run):
  (before,) = run("loss", random_run, "--json")[1]["steps"]
  (after,) = run("loss", random_run, "--json", "--gin.MASKED_SHARE=0.5")[1]["steps"]
  assert after["tokens"] > 3 * before["tokens"] and after["loss"] != before["loss"]


def test_each_stage_is_measured_with_its_own_settings(copy, run):
  first = run("loss", copy, "--step=2", "--json")[1]
  later = run("loss", copy, "--step=4,6", "--json", "--gin.MASKED_SHARE=0.5")[1]
  stages = "STAGES = {'more masks': {'after_steps': 2, 'MASKED_SHARE': 0.5}}\n"
  (copy / "config.gin").write_text((copy / "config.gin").read_text() + stages)
  code, found = run("loss", copy, "--all_steps", "--json")
  assert code == 0 and [x["stage"] for x in found["stages"]] == ["start", "more masks"]
  assert [x["steps"] for x in found["stages"]] == [first["steps"], later["steps"]]
  assert run("loss", copy, "--step=2", "--json")[1]["steps"] == first["steps"]
  _, shown = run("loss", copy, "--all_steps")
  assert "stage 'start', random" in shown and "stage 'more masks', random" in shown


def test_missing_and_damaged_steps_are_reported_and_the_others_measured(copy, run):
  damages.change_a_number(copy / "checkpoints/4")
  code, found = run("loss", copy, "--step=2,3,4,6", "--json")
  assert code == 1
  problems = {x["step"]: x.get("problem", "") for x in found["steps"]}
  assert problems[2] == problems[6] == ""
  assert "no complete checkpoint" in problems[3] and "token_embed/embedding" in problems[4]
  code, shown = run("loss", copy, "--all_steps")
  rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
  assert code == 1 and "damaged" in rows["4"] and rows["6"].rstrip().endswith(("best", "%"))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--step=2", "--all_steps"], "--step and --all_steps contradict each other"),
    (["--text=absent.txt"], "--text=absent.txt does not exist"),
    (["--text=."], "--text=. is a folder"),
    (["--text=text"], "--text: this run reads no text"),
    (["--text=empty"], "--text=empty is empty"),
    (["--all_batches"], "random batches have no end"),
    (["--gin.TransformerConfig.mlp_dim=32"], "(?s)a checkpoint of another model.*mlp/w"),
    (["--gin.MASKED_SHAR=0.5"], "MASKED_SHARE"),
  ],
)
def test_mistakes(arguments, message, random_run, run, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "text").write_text("some text")
  (tmp_path / "empty").write_text("")
  with pytest.raises(ConfigurationError, match=message):
    run("loss", random_run, *arguments)


def test_a_folder_without_its_configuration(copy, run):
  (copy / "config.gin").unlink()
  with pytest.raises(ConfigurationError, match="has no config.gin.*--gin_file=my_run.gin"):
    run("loss", copy)
