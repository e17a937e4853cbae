"""The preview as a command: attention as in the model, its page and JSON, its mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from launch import preview
from launch.process.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


def test_attention_is_that_of_the_model():
  """Prefix LM: 3 of 5 tokens are read in both directions."""
  features = {
    "decoder_input_tokens": np.array([0, 5, 6, 7, 8]),
    "decoder_target_tokens": np.array([5, 6, 7, 8, 9]),
    "decoder_causal_attention": np.array([1, 1, 1, 0, 0]),
  }
  assert preview.attention(features)["decoder"].astype(int).tolist() == [
    [1, 1, 1, 0, 0],
    [1, 1, 1, 0, 0],
    [1, 1, 1, 0, 0],
    [1, 1, 1, 1, 0],
    [1, 1, 1, 1, 1],
  ]


def test_each_side_has_its_own_attention():
  features = {
    "encoder_input_tokens": np.array([5, 6, 0]),
    "decoder_input_tokens": np.array([0, 5]),
    "decoder_target_tokens": np.array([5, 1]),
  }
  masks = preview.attention(features)
  assert masks["encoder"][:2].astype(int).tolist() == [[1, 1, 0], [1, 1, 0]]
  assert masks["decoder"].astype(int).tolist() == [[1, 0], [1, 1]]
  assert masks["cross"].astype(int).tolist() == [[1, 1, 0], [1, 1, 0]]


def test_documents_of_a_row_are_apart_on_both_sides_and_between_them():
  features = {
    "encoder_input_tokens": np.array([5, 6, 7, 0]),
    "encoder_segment_ids": np.array([1, 2, 2, 0]),
    "decoder_input_tokens": np.array([0, 5, 0]),
    "decoder_segment_ids": np.array([1, 1, 2]),
  }
  masks = {side: mask.astype(int).tolist() for side, mask in preview.attention(features).items()}
  assert masks == {
    "encoder": [[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]],
    "decoder": [[1, 0, 0], [1, 1, 0], [0, 0, 1]],
    "cross": [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]],
  }


def run(*arguments, cwd):
  return subprocess.run(
    [sys.executable, "-m", "launch.preview", *arguments],
    cwd=cwd,
    env=None,
    capture_output=True,
    text=True,
    timeout=200,
  )


@pytest.mark.slow
def test_command(tmp_path):
  done = run(
    f"--gin_file={ROOT}/gin_configs/quickstart.gin",
    "--json",
    f"--html={tmp_path}/page.html",
    "--seconds=0.5",
    "--gin.SHUFFLE_BUFFER_SIZE=64",
    cwd=ROOT,
  )
  assert done.returncode == 0, done.stderr
  value = json.loads(done.stdout)
  assert value["objective"] == "span_corruption"
  assert value["feature_lengths"] == {"inputs": 64, "targets": 64}
  assert value["signal_density"] == pytest.approx(64 / 112)
  assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--html=/no/such/folder/x.html"], "--html=/no/such/folder/x.html is no file"),
    (["--html=/proc/x.html"], "--html=/proc/x.html cannot be written ("),
    (["--examples=-1"], "--examples=-1"),
    (["--dry_run"], "no flag --dry_run"),
  ],
)
def test_mistakes(arguments, message, monkeypatch):
  monkeypatch.setattr(preview.environment, "prepare", lambda: None)
  with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
    preview.main(["preview", "--gin_file=quickstart.gin", *arguments])
