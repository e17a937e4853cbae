"""The loop: interrupted runs, learning, checkpoints, mistakes."""

import dataclasses
import functools
import json
import shutil
import signal

import jax
import numpy as np
import optax
import pytest
from etils import epath

from t5x_style.checkpoints import manager
from t5x_style.errors import UserError
from t5x_style.reporting.terminal import Terminal
from t5x_style.training import evaluation, loop, optimizers, schedules, setup

ARCHITECTURES = [
  "decoder_only",
  pytest.param("encoder_decoder", marks=pytest.mark.slow),
  pytest.param("encoder_only", marks=pytest.mark.slow),
]


def go(config):
  return loop.train(loop.open_run(setup.prepare(config)), Terminal(enabled=False))


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


@pytest.fixture
def with_optimizations():
  """Programs are compiled as in real runs: see compile_fast."""
  jax.config.update("jax_disable_most_optimizations", False)
  jax.clear_caches()
  yield
  jax.config.update("jax_disable_most_optimizations", True)
  jax.clear_caches()


def check_interrupted_run(architecture, tiny_config, tmp_path, **sizes):
  settings = {
    "optimizer": optimizers.adafactor,
    "num_microbatches": 2,
    "log_period": 2,
    "model": {"dropout_rate": 0.1, **sizes},
  }
  whole = go(tiny_config(architecture, tmp_path / "whole", train_steps=5, **settings))
  go(tiny_config(architecture, tmp_path / "parts", train_steps=3, **settings))
  parts = go(tiny_config(architecture, tmp_path / "parts", train_steps=5, **settings))
  assert parts.first_step == 3
  assert_same(whole.state, parts.state)
  assert records(tmp_path / "parts") == records(tmp_path / "whole")
  assert [r["step"] for r in records(tmp_path / "whole")] == [2, 4]


def test_interrupted_run_is_bit_identical(tiny_config, tmp_path):
  check_interrupted_run("decoder_only", tiny_config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["decoder_only", "encoder_decoder", "encoder_only"])
def test_interrupted_run_of_optimized_programs_is_bit_identical(
  architecture, tiny_config, tmp_path, with_optimizations
):
  """Large enough for fused loops and for products on several threads."""
  sizes = {"emb_dim": 128, "mlp_dim": 512, "num_heads": 4, "head_dim": 32}
  check_interrupted_run(architecture, tiny_config, tmp_path, **sizes)


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
def test_one_batch_is_learnt_by_heart(architecture, tiny_config, tmp_path):
  config = tiny_config(
    architecture,
    tmp_path,
    train_steps=150,
    log_period=150,
    save_period=1000,
    schedule=schedules.constant(1e-2, warmup_steps=10),
  )
  load = config.dataset
  config = dataclasses.replace(config, dataset=lambda **kw: Repeated(load(**kw)))
  result = go(config)
  prepared = setup.prepare(config)
  final = evaluation.make_evaluate(prepared)(result.state.params, [next(prepared.dataset.train())])
  assert final["loss"] < 0.05
  assert final["accuracy"] == 1.0


def test_microbatches_change_no_gradient(tiny_config, tmp_path):
  """Normalised once, globally: rows of very different weight, cut in 1, 2 or 4 parts.

  A step takes the gradient itself away. (Adam divides an entry by its own size: where that is
  nearly 0, a rounding changes the whole step.)
  """

  def subtract_gradient(schedule):
    del schedule
    return optax.sgd(1.0)

  states = []
  for parts in (1, 2, 4):
    config = tiny_config(
      "decoder_only",
      tmp_path / str(parts),
      optimizer=subtract_gradient,
      train_steps=1,
      num_microbatches=parts,
    )
    config = dataclasses.replace(config, dataset=functools.partial(uneven, config.dataset))
    states.append(go(config).state.params)
  for other in states[1:]:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-6), states[0], other)


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


def test_another_run_in_model_dir_is_refused_with_the_difference(tiny_config, tmp_path):
  go(tiny_config("decoder_only", tmp_path, train_steps=1))
  before = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  other = setup.prepare(tiny_config("decoder_only", tmp_path, model={"mlp_dim": 128}))
  with pytest.raises(ValueError, match="another run") as error:
    loop.open_run(other)
  assert '- "mlp_dim": 64' in str(error.value)
  assert '+ "mlp_dim": 128' in str(error.value)
  assert "emb_dim" not in str(error.value)
  assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == before


def test_a_checkpoint_older_than_an_option_is_of_the_same_run(tiny_config, tmp_path):
  prepared = setup.prepare(tiny_config("decoder_only", tmp_path))
  saved = json.loads(json.dumps(prepared.identity()))
  del saved["model"]["attention_windows"]
  loop.check_same_run(prepared, saved)
  saved["model"]["attention_windows"] = [64]
  with pytest.raises(ValueError, match="another run"):
    loop.check_same_run(prepared, saved)


def test_newest_and_best_checkpoints_are_kept(tiny_config, tmp_path):
  rising = schedules.linear(3.0, total_steps=6)  # So large that later losses are worse.
  go(
    tiny_config(
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


def test_starting_from_another_runs_parameters(tiny_config, tmp_path):
  first = go(tiny_config("decoder_only", tmp_path / "first", train_steps=2))
  path = str(tmp_path / "first")
  config = tiny_config(
    "decoder_only",
    tmp_path / "second",
    initial_checkpoint_path=path,
    optimizer=optimizers.adafactor,
  )
  job = loop.open_run(setup.prepare(config))
  job.checkpoints.close()
  assert int(job.state.step) == 0
  assert_same(job.state.params, first.state.params)
  wrong = tiny_config(
    "decoder_only",
    tmp_path / "third",
    initial_checkpoint_path=path,
    model={"mlp_dim": 80},
  )
  with pytest.raises(ValueError, match="is not a checkpoint of this model"):
    loop.open_run(setup.prepare(wrong))
  missing = tiny_config(
    "decoder_only", tmp_path / "x", initial_checkpoint_path=str(tmp_path / "no")
  )
  with pytest.raises(UserError, match="holds no complete checkpoint"):
    loop.open_run(setup.prepare(missing))
  # A dry run finds the same.
  loop.check_start(
    setup.prepare(tiny_config("decoder_only", tmp_path / "y", initial_checkpoint_path=path))
  )
  for bad, message in ((wrong, "not a checkpoint of this model"), (missing, "no complete check")):
    with pytest.raises(UserError, match=message):
      loop.check_start(setup.prepare(bad))


@pytest.mark.parametrize("save_period", [1, 2, 5])
def test_what_is_not_finite_stops_the_run_and_is_not_saved(save_period, tiny_config, tmp_path):
  """Step 4 makes the parameters useless; no record is due, and the run has few steps left."""
  spoil = lambda step: jax.numpy.where(step == 3, 1e30, 1e-3)
  settings = {"train_steps": 5, "log_period": 50, "save_period": save_period}
  with pytest.raises(FloatingPointError, match="step [45](.*)Lower the learning rate"):
    go(tiny_config("decoder_only", tmp_path, schedule=spoil, **settings))
  saved = sorted(int(p.name) for p in (tmp_path / "checkpoints").glob("[0-9]*"))
  assert saved == [step for step in (1, 2, 3) if step % save_period == 0]
  sane = go(tiny_config("decoder_only", tmp_path, **settings))
  assert sane.first_step == max(saved, default=0)
  assert sane.validation["loss"] < 6


def test_a_checkpoint_to_start_from_must_be_finite(tiny_config, tmp_path):
  prepared = setup.prepare(tiny_config("decoder_only", tmp_path / "spoilt"))
  state = prepared.init(0)
  spoilt = state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
  with manager.Checkpoints(prepared.model_dir / "checkpoints") as saved:
    saved.save(spoilt, {"stream_00000": b"0"}, identity=prepared.identity(), progress={})
  with pytest.raises(UserError, match="cannot be used: .* not finite, in params/.* and . more"):
    loop.open_run(prepared)
  path = str(tmp_path / "spoilt")
  other = tiny_config("decoder_only", tmp_path / "other", initial_checkpoint_path=path)
  with pytest.raises(UserError, match="INITIAL_CHECKPOINT_PATH = .* not finite, in decoder/"):
    loop.open_run(setup.prepare(other))


DAMAGES = {
  "an empty folder of a later step": lambda newest: (newest.parent / "6").mkdir(),
  "no place in the data": lambda newest: shutil.rmtree(newest / "data"),
  "a place that is not one": lambda newest: (newest / "data/stream_00000").write_bytes(b"\x00"),
  "arrays cut short": lambda newest: [
    file.write_bytes(file.read_bytes()[:100]) for file in (newest / "state").rglob("d/*")
  ],
  "no list of arrays": lambda newest: (newest / "state" / "_METADATA").write_text("{"),
  "no description of the run": lambda newest: shutil.rmtree(newest / "run"),
}


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_named_and_older_ones_serve(tiny_config, tmp_path):
  settings = {"train_steps": 4, "save_period": 2}
  go(tiny_config("decoder_only", tmp_path / "run", **settings))
  for name, damage in DAMAGES.items():
    copy = tmp_path / name
    shutil.copytree(tmp_path / "run", copy)
    damage(copy / "checkpoints" / "4")
    damaged, older = (6, 4) if (copy / "checkpoints" / "6").exists() else (4, 2)
    match = f"checkpoints/{damaged}', cannot be used: (.|\\n)* to resume from step {older}."
    with pytest.raises(UserError, match=match):
      loop.open_run(setup.prepare(tiny_config("decoder_only", copy, **settings)))
    if name in ("arrays cut short", "no list of arrays"):
      config = tiny_config("decoder_only", tmp_path / "new", initial_checkpoint_path=str(copy))
      with pytest.raises(
        UserError, match="INITIAL_CHECKPOINT_PATH.* (cannot be read|is not a whole)"
      ):
        loop.open_run(setup.prepare(config))
    (copy / "checkpoints" / str(damaged)).rename(copy / "moved")
    assert go(tiny_config("decoder_only", copy, **settings)).first_step == older


class Stopping(Repeated):
  """Asks the process to stop while the second batch is fetched, as a cluster would."""

  def __init__(self, dataset):
    super().__init__(dataset)
    self._number = 0

  def __next__(self):
    self._number += 1
    if self._number == 2:
      signal.raise_signal(signal.SIGTERM)
    return super().__next__()

  def set_state(self, state):
    self._number = 2


def test_a_stop_saves_before_a_due_evaluation_and_the_next_start_evaluates(tiny_config, tmp_path):
  config = tiny_config("decoder_only", tmp_path, train_steps=4, eval_period=2, log_period=50)
  load = config.dataset
  config = dataclasses.replace(config, dataset=lambda **kw: Stopping(load(**kw)))
  stopped = go(config)
  assert (stopped.stopped_by, int(stopped.state.step)) == ("SIGTERM", 2)
  assert (tmp_path / "checkpoints" / "2").exists()
  assert records(tmp_path, "validation") == []
  assert go(config).stopped_by is None
  assert [record["step"] for record in records(tmp_path, "validation")] == [2, 4]


def test_a_finished_run_is_evaluated_without_compiling_its_step(tiny_config, tmp_path, monkeypatch):
  config = tiny_config("decoder_only", tmp_path, train_steps=1)
  done = go(config)
  monkeypatch.setattr(loop, "compile_step", None)
  again = go(config)
  assert again.first_step == 1
  assert again.validation["loss"] == done.validation["loss"]


def test_evaluation_takes_microbatches_too(tiny_config, tmp_path):
  """A run that fits in memory only in parts must not fail at its first evaluation."""
  values, temporaries = [], []
  for parts in (1, 8):
    prepared = setup.prepare(
      tiny_config("decoder_only", tmp_path, batch_size=64, num_microbatches=parts)
    )
    batches = list(prepared.dataset.evaluation(2))
    values.append(evaluation.make_evaluate(prepared)(prepared.init(0).params, batches))
    compiled = evaluation.compile_evaluation(prepared)
    temporaries.append(compiled.memory_analysis().temp_size_in_bytes)
    step = loop.compile_step(prepared).memory_analysis()
    assert temporaries[-1] <= step.temp_size_in_bytes
  assert values[0] == pytest.approx(values[1], rel=1e-5)
  assert temporaries[1] < temporaries[0] / 4


def test_the_newest_complete_step_is_found(tiny_config, tmp_path):
  go(tiny_config("decoder_only", tmp_path, train_steps=2, save_period=1))
  (tmp_path / "checkpoints" / "7").mkdir()  # Begun and never filled.
  (tmp_path / "checkpoints" / "9.orbax-checkpoint-tmp-1" / "state").mkdir(parents=True)
  newest = manager.find_step(epath.Path(tmp_path))
  assert newest == epath.Path(tmp_path) / "checkpoints" / "2"


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"mesh_shape": {"data": 3}}, "Mesh data=3 needs 3 devices, 1 is present; set MESH_SHAPE"),
    ({"mesh_shape": {"model": 2}}, "names the axis 'model'"),
    ({"num_microbatches": 3}, "BATCH_SIZE = 8 does not divide .* set BATCH_SIZE = 9"),
    ({"model": {"vocab_size": 90}}, "has 96 ids, the model only 90 rows; set VOCAB_SIZE = 96"),
    ({"model": {"vocab_size": 32128}}, "96 ids, smaller than the model's 32128"),
  ],
)
def test_mistakes_are_refused_before_anything_is_compiled(changes, message, tiny_config, tmp_path):
  with pytest.raises(ValueError, match=message):
    setup.prepare(tiny_config("decoder_only", **{"model_dir": tmp_path, **changes}))


def test_unwritable_model_dir_is_refused(tiny_config, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="MODEL_DIR = .* cannot be written"):
    setup.prepare(tiny_config("decoder_only", tmp_path / "file" / "run"))
