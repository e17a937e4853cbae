"""The loop: runs that resume, learning, microbatches, a run that is complete."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from t5x_style.checkpoints import restoring
from t5x_style.errors import UserError
from t5x_style.reporting import reporter, terminal
from t5x_style.training import evaluation, loop, optimizers, schedules, setup
from tests import tiny

ARCHITECTURES = [
  "decoder_only",
  pytest.param("encoder_decoder", marks=pytest.mark.slow),
  pytest.param("encoder_only", marks=pytest.mark.slow),
]


@pytest.fixture
def with_optimizations():
  """Compiles with all optimizations, as real runs do; other tests compile fast instead."""
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
  whole = tiny.train(tiny_config(architecture, tmp_path / "whole", train_steps=5, **settings))
  tiny.train(tiny_config(architecture, tmp_path / "parts", train_steps=3, **settings))
  parts = tiny.train(tiny_config(architecture, tmp_path / "parts", train_steps=5, **settings))
  assert parts.first_step == 3
  jax.tree.map(np.testing.assert_array_equal, whole.state, parts.state)
  assert tiny.records(tmp_path / "parts") == tiny.records(tmp_path / "whole")
  assert [r["step"] for r in tiny.records(tmp_path / "whole")] == [2, 4]


class _WithoutStorage(reporter.RunReporter):
  """From step 3 to step 5 a file is where the folder of checkpoints was."""

  def before_step(self, step):
    super().before_step(step)
    if step in (3, 6):
      self.job.checkpoints.wait()
    if step == 3:
      self.folder.rename(self.folder.parent / "elsewhere")
      self.folder.write_text("")
    if step == 6:
      self.folder.unlink()
      (self.folder.parent / "elsewhere").rename(self.folder)


def test_saves_that_fail_change_nothing_but_the_count_of_them(tiny_config, tmp_path):
  settings = {"train_steps": 6, "save_period": 2}
  whole = tiny.train(tiny_config("decoder_only", tmp_path / "whole", **settings))
  settings["save_period"] = 1
  job = restoring.open_run(setup.prepare(tiny_config("decoder_only", tmp_path / "run", **settings)))
  reports = _WithoutStorage(job.prepared, 0, terminal.Terminal(enabled=False))
  reports.job, reports.folder = job, tmp_path / "run" / "checkpoints"
  with pytest.warns(UserWarning, match="Step 4 is not saved"):
    run = loop.train(job, reports)
  jax.tree.map(np.testing.assert_array_equal, whole.state, run.state)
  records = tiny.records(tmp_path / "run")
  assert [record.pop("failed_saves", 0) for record in records] == [0, 0, 0, 1, 2, 3]
  assert records == tiny.records(tmp_path / "whole")
  assert job.checkpoints.steps()[-1] == 6


def test_interrupted_run_is_bit_identical(tiny_config, tmp_path):
  check_interrupted_run("decoder_only", tiny_config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["decoder_only", "encoder_decoder", "encoder_only"])
def test_interrupted_run_of_optimized_programs_is_bit_identical(
  architecture, tiny_config, tmp_path, with_optimizations
):
  """The model is large enough for fused loops and for products on several threads."""
  sizes = {"emb_dim": 128, "mlp_dim": 512, "num_heads": 4, "head_dim": 32}
  check_interrupted_run(architecture, tiny_config, tmp_path, **sizes)


def test_initial_parameters_are_evaluated_before_the_first_step(tiny_config, tmp_path):
  """The reference of what is gained and forgotten; it is part of every checkpoint."""
  first = tiny.train(tiny_config("decoder_only", tmp_path / "first"))
  assert first.reference == {}
  start = {"initial_checkpoint_path": str(tmp_path / "first"), "eval_period": 2, "save_period": 2}
  config = tiny_config("decoder_only", tmp_path / "second", train_steps=2, **start)
  second = tiny.train(config)
  timeless = lambda values: {k: v for k, v in values.items() if k != "seconds"}
  assert timeless(second.reference) == timeless(first.validation)
  assert second.validation["loss"] != second.reference["loss"]
  validation = tiny.records(tmp_path / "second", "validation")
  assert [record["step"] for record in validation] == [0, 2]
  assert validation[0]["loss"] == second.reference["loss"]
  resumed = tiny.train(dataclasses.replace(config, train_steps=4))
  assert resumed.reference == second.reference
  steps = [record["step"] for record in tiny.records(tmp_path / "second", "validation")]
  assert steps == [0, 2, 4]


def test_the_last_step_is_saved_if_the_next_batch_cannot_be_read(tiny_config, tmp_path):
  """And the run resumes with that batch, once it can be read."""
  whole = tiny.train(tiny_config("decoder_only", tmp_path / "whole", train_steps=5))
  config = tiny_config("decoder_only", tmp_path / "parts", train_steps=5)
  job = restoring.open_run(setup.prepare(config))

  class Unreadable(type(job.iterator)):
    def __next__(self):
      if self._next == 3:
        raise UserError("a.txt cannot be read")
      return super().__next__()

  job.iterator.__class__ = Unreadable
  with pytest.raises(UserError, match="a.txt cannot be read"):
    loop.train(job, reporter.RunReporter(job.prepared, 0, terminal.Terminal(enabled=False)))
  assert [path.name for path in (tmp_path / "parts" / "checkpoints").iterdir()] == ["3"]
  parts = tiny.train(config)
  assert parts.first_step == 3
  jax.tree.map(np.testing.assert_array_equal, whole.state, parts.state)
  assert tiny.records(tmp_path / "parts") == tiny.records(tmp_path / "whole")


class Repeated:
  """A dataset that returns its first batch repeatedly, as its own iterator."""

  def __init__(self, dataset):
    self._dataset, self._read = dataset, 0

  def __getattr__(self, name):
    return getattr(self._dataset, name)

  def train(self):
    return self

  def __next__(self):
    self._read += 1
    return self._dataset.batch(0)

  def get_state(self):
    return {}

  def epochs(self):
    return {"code": self._read / 10}

  def skipped(self):
    return ""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_batch_is_memorised(architecture, tiny_config, tmp_path):
  config = tiny_config(
    architecture,
    tmp_path,
    train_steps=150,
    log_period=50,
    save_period=1000,
    schedule=schedules.constant(1e-2, warmup_steps=10),
  )
  load = config.dataset
  config = dataclasses.replace(config, dataset=lambda **kw: Repeated(load(**kw)))
  result = tiny.train(config)
  prepared = setup.prepare(config)
  final = evaluation.make_evaluate(prepared)(result.state.params, [next(prepared.dataset.train())])
  assert final["loss"] < 0.05
  assert final["accuracy"] == 1.0
  # A record says how often a corpus was read at its step, although the next batch is read already.
  read = [(record["step"], record["epochs/code"]) for record in tiny.records(tmp_path)]
  assert read == [(50, 5), (100, 10), (150, 15)]


@pytest.mark.slow
def test_microbatches_change_no_gradient(tiny_config, tmp_path):
  """The loss is normalised over the whole batch, although its rows have very different weights.

  A step subtracts the gradient itself. (Adam divides an entry by its own size: if that is nearly 0,
  a rounding error changes the whole step.)
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
    states.append(tiny.train(config).state.params)
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


def test_a_finished_run_is_evaluated_without_compiling_its_step(tiny_config, tmp_path, monkeypatch):
  config = tiny_config("decoder_only", tmp_path, train_steps=1)
  done = tiny.train(config)
  monkeypatch.setattr(loop, "compile_step", None)
  again = tiny.train(config)
  assert again.first_step == 1
  assert again.validation["loss"] == done.validation["loss"]
