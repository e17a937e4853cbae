"""Samples on the way: when they are taken, and which are left when a run resumes."""

import json

import pytest

from t5x_style.checkpoints import restoring
from t5x_style.reporting import reporter, sampling, terminal
from t5x_style.training import loop, setup
from tests import tiny


def train(config):
  """Trains, or resumes, with samples, the last one as for the summary; returns the result."""
  job = restoring.open_run(setup.prepare(config))
  sampler = sampling.Sampler(job)
  silent = terminal.Terminal(enabled=False)
  result = loop.train(
    job, reporter.RunReporter(job.prepared, job.first_step, silent, sampler=sampler)
  )
  sampler.take(config.train_steps, result.state.params)
  return result


def samples(model_dir):
  lines = (model_dir / "samples.jsonl").read_text().splitlines()
  return [(x["step"], x["sample"]) for x in map(json.loads, lines)]


def test_samples_become_rarer_and_the_end_has_one(tmp_path):
  config = tiny.config("encoder_only", tmp_path, train_steps=14, eval_period=2)
  train(config)
  train(config)  # Nothing is left to do.
  found = samples(tmp_path)
  assert [step for step, _ in found] == [2, 4, 8, 14]
  titles = list(found[0][1])
  assert titles[:2] == [
    "Hidden tokens of held-out texts, and the likeliest tokens with their probabilities",
    "token 1",
  ]
  first, last = (texts["token 1"].split("\n") for texts in (found[0][1], found[-1][1]))
  assert first[:2] == last[:2] and first != last  # The same row each time, other candidates.


def test_a_resumed_run_has_the_samples_of_one_that_was_not_interrupted(tmp_path):
  """Killed after the sample of step 4, whose checkpoint is that of step 3."""
  changes = {"train_steps": 6, "eval_period": 2, "save_period": 3}
  train(tiny.config("encoder_only", tmp_path / "whole", **changes))
  train(tiny.config("encoder_only", tmp_path / "cut", **{**changes, "train_steps": 3}))
  lines = (tmp_path / "cut/samples.jsonl").read_text().splitlines(keepends=True)
  assert [json.loads(line)["step"] for line in lines] == [2, 3]
  (tmp_path / "cut/samples.jsonl").write_text(
    lines[0] + '{"step": 4, "sample": {}}\n{"step": 4, "sa'
  )
  job = restoring.open_run(setup.prepare(tiny.config("encoder_only", tmp_path / "cut", **changes)))
  with job.checkpoints:
    sampling.Sampler(job)
  assert [step for step, _ in samples(tmp_path / "cut")] == [2]
  train(tiny.config("encoder_only", tmp_path / "cut", **changes))
  assert samples(tmp_path / "cut") == samples(tmp_path / "whole")


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path):
  (tmp_path / "samples.jsonl").mkdir()
  with pytest.warns(UserWarning, match="samples.jsonl cannot be written"):
    result = train(tiny.config("encoder_only", tmp_path, train_steps=2))
  assert result.complete
