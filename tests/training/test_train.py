"""The loop: interrupted runs, learning, checkpoints, mistakes."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.training import optimizers, run, schedules, train
from t5x_style.training.evaluation import make_evaluate
from t5x_style.training.terminal import Terminal

ARCHITECTURES = [
  "decoder_only",
  pytest.param("encoder_decoder", marks=pytest.mark.slow),
  pytest.param("encoder_only", marks=pytest.mark.slow),
]


def go(a_run):
  return train.train(train.open_run(run.prepare(a_run)), Terminal(enabled=False))


def records(model_dir, split="train"):
  lines = (model_dir / "metrics.jsonl").read_text().splitlines()
  timed = ("seconds", "tokens_per_second", "data_wait")
  parsed = [json.loads(line) for line in lines]
  assert all(0 < record["data_wait"] < 1 for record in parsed if record["split"] == "train")
  return [
    {k: v for k, v in record.items() if k not in timed}
    for record in parsed
    if record["split"] == split
  ]


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_interrupted_run_is_bit_identical(architecture, tiny_run, tmp_path):
  settings = {
    "optimizer": optimizers.adafactor,
    "num_microbatches": 2,
    "log_period": 2,
    "model": {"dropout_rate": 0.1},
  }
  whole = go(tiny_run(architecture, tmp_path / "whole", train_steps=5, **settings))
  go(tiny_run(architecture, tmp_path / "parts", train_steps=3, **settings))
  parts = go(tiny_run(architecture, tmp_path / "parts", train_steps=5, **settings))
  assert parts.first_step == 3
  assert_same(whole.state, parts.state)
  assert records(tmp_path / "parts") == records(tmp_path / "whole")
  assert [r["step"] for r in records(tmp_path / "whole")] == [2, 4]


class Repeated:
  """A dataset that hands out its first batch again and again, as its own iterator."""

  def __init__(self, dataset):
    self._dataset = dataset

  def __getattr__(self, name):
    return getattr(self._dataset, name)

  def train(self):
    return self

  def __next__(self):
    return self._dataset.batch(0)

  def get_state(self):
    return {}

  def skipped(self):
    return ""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_batch_is_learnt_by_heart(architecture, tiny_run, tmp_path):
  a_run = tiny_run(
    architecture,
    tmp_path,
    train_steps=150,
    log_period=150,
    save_period=1000,
    schedule=schedules.constant(1e-2, warmup_steps=10),
  )
  load = a_run.dataset
  a_run = dataclasses.replace(a_run, dataset=lambda **kw: Repeated(load(**kw)))
  result = go(a_run)
  prepared = run.prepare(a_run)
  final = make_evaluate(prepared)(result.state.params, [next(prepared.dataset.train())])
  assert final["loss"] < 0.05
  assert final["accuracy"] == 1.0


def test_microbatches_change_no_gradient(tiny_run, tmp_path):
  """Normalised once, globally: rows of very different weight, cut in 1, 2 or 4 parts."""
  states = []
  for parts in (1, 2, 4):
    a_run = tiny_run(
      "decoder_only", tmp_path / str(parts), train_steps=3, num_microbatches=parts, save_period=9
    )
    a_run = dataclasses.replace(a_run, dataset=functools.partial(uneven, a_run.dataset))
    states.append(go(a_run).state.params)
  for other in states[1:]:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), states[0], other)


def uneven(load, **kw):
  dataset = load(**kw)
  make = dataset.batch

  def batch(number):
    features = make(number)
    weights = features["decoder_loss_weights"]
    weights[np.arange(8)[:, None] < np.arange(weights.shape[1])] = 0  # row r: r + 1 tokens
    return features

  dataset.batch = batch
  return dataset


def test_another_run_in_model_dir_is_refused_with_the_difference(tiny_run, tmp_path):
  go(tiny_run("decoder_only", tmp_path, train_steps=1))
  before = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  other = run.prepare(tiny_run("decoder_only", tmp_path, model={"mlp_dim": 128}))
  with pytest.raises(ValueError, match="another run") as error:
    train.open_run(other)
  assert '- "mlp_dim": 64' in str(error.value)
  assert '+ "mlp_dim": 128' in str(error.value)
  assert "emb_dim" not in str(error.value)
  assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == before


def test_a_checkpoint_older_than_an_option_is_of_the_same_run(tiny_run, tmp_path):
  prepared = run.prepare(tiny_run("decoder_only", tmp_path))
  saved = json.loads(json.dumps(prepared.identity()))
  del saved["model"]["attention_windows"]
  train.check_same_run(prepared, saved)
  saved["model"]["attention_windows"] = [64]
  with pytest.raises(ValueError, match="another run"):
    train.check_same_run(prepared, saved)


def test_newest_and_best_checkpoints_are_kept(tiny_run, tmp_path):
  rising = schedules.linear(3.0, total_steps=6)  # So large that later losses are worse.
  go(
    tiny_run(
      "decoder_only",
      tmp_path,
      train_steps=6,
      save_period=1,
      eval_period=1,
      keep_checkpoints=2,
      schedule=rising,
    )
  )
  losses = {r["step"]: r["loss"] for r in records(tmp_path, "validation")}
  best = min(losses, key=losses.get)
  kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
  assert kept == {5, 6, best}


def test_starting_from_another_runs_parameters(tiny_run, tmp_path):
  first = go(tiny_run("decoder_only", tmp_path / "first", train_steps=2))
  path = str(tmp_path / "first")
  a_run = tiny_run(
    "decoder_only",
    tmp_path / "second",
    initial_checkpoint_path=path,
    optimizer=optimizers.adafactor,
  )
  job = train.open_run(run.prepare(a_run))
  assert int(job.state.step) == 0
  assert_same(job.state.params, first.state.params)
  wrong = tiny_run(
    "decoder_only",
    tmp_path / "third",
    initial_checkpoint_path=path,
    model={"mlp_dim": 80},
  )
  with pytest.raises(ValueError, match="is not a checkpoint of this model"):
    train.open_run(run.prepare(wrong))
  missing = tiny_run("decoder_only", tmp_path / "x", initial_checkpoint_path=str(tmp_path / "no"))
  with pytest.raises(UserError, match="holds no complete checkpoint"):
    train.open_run(run.prepare(missing))


def test_a_loss_that_is_no_number_stops_the_run(tiny_run, tmp_path):
  a_run = tiny_run(
    "decoder_only", tmp_path, train_steps=6, schedule=lambda step: 1e30, save_period=1
  )
  with pytest.raises(FloatingPointError, match="at step .; the last checkpoint is that of step"):
    go(a_run)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"train_steps": 0}, "TRAIN_STEPS = 0 must be a whole number"),
    ({"batch_size": 2.5}, "BATCH_SIZE = 2.5 must be a whole number"),
    ({"seed": -1}, "RANDOM_SEED = -1"),
    ({"model_dir": ""}, "MODEL_DIR = '' must be a path"),
    ({"mesh_shape": {"data": 3}}, "Mesh data=3 needs 3 devices, 1 is present; set MESH_SHAPE"),
    ({"mesh_shape": {"model": 2}}, "names the axis 'model'"),
    ({"num_microbatches": 3}, "BATCH_SIZE = 8 does not divide .* set BATCH_SIZE = 9"),
    ({"model": {"vocab_size": 90}}, "has 96 ids, the model only 90 rows; set VOCAB_SIZE = 96"),
    ({"model": {"vocab_size": 32128}}, "96 ids, smaller than the model's 32128"),
  ],
)
def test_mistakes_are_refused_before_anything_is_compiled(changes, message, tiny_run, tmp_path):
  with pytest.raises(ValueError, match=message):
    run.prepare(tiny_run("decoder_only", **{"model_dir": tmp_path, **changes}))


def test_unwritable_model_dir_is_refused(tiny_run, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="MODEL_DIR = .* cannot be written"):
    run.prepare(tiny_run("decoder_only", tmp_path / "file" / "run"))
