"""The command that translates gin files of T5X."""

import pytest

from launch import gin_from_t5x
from launch.process.errors import ConfigurationError


def test_the_file_and_the_report(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "theirs.gin").write_text(
    "include 't5x/examples/t5/t5_1_1/base.gin'\ninclude 't5x/configs/runs/pretrain.gin'\n"
    "TRAIN_STEPS = 9\nUSE_HARDWARE_RNG = True\n"
  )
  gin_from_t5x.main(["gin_from_t5x", "theirs.gin"])
  printed = capsys.readouterr().out
  assert "include 'models/t5_1_1/base.gin'" in printed
  gin_from_t5x.main(["gin_from_t5x", "theirs.gin", "--to=ours.gin"])
  assert (tmp_path / "ours.gin").read_text() + "\n" == printed
  said = capsys.readouterr().err
  assert "USE_HARDWARE_RNG (theirs.gin:4)" in said and "generator of random numbers" in said
  assert "--gin_file=ours.gin --dry_run" in said
  with pytest.raises(ConfigurationError, match="ours.gin exists"):
    gin_from_t5x.main(["gin_from_t5x", "theirs.gin", "--to=ours.gin"])


def test_what_is_still_missing_is_said(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "theirs.gin").write_text("T5Config.vocab_size = 'many'\n")
  gin_from_t5x.main(["gin_from_t5x", "theirs.gin", "--to=ours.gin"])
  said = capsys.readouterr().err
  assert "Before it can run:" in said and "VOCAB_SIZE = 'many'" in said


@pytest.mark.parametrize("arguments", [[], ["a.gin", "b.gin"]])
def test_one_file_is_needed(arguments):
  with pytest.raises(ConfigurationError, match="Give one gin file"):
    gin_from_t5x.main(["gin_from_t5x", *arguments])
