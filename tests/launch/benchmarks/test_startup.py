"""The startup benchmark: real starts, compilations without the cache, saves that block."""

import time

import jax
import pytest

from launch import benchmark
from launch.benchmarks import startup, step_cases
from launch.process.errors import ConfigurationError
from t5x_style.checkpoints.manager import Checkpoints

TINY = step_cases.TransformerConfig(
  vocab_size=64,
  emb_dim=16,
  num_heads=2,
  head_dim=8,
  mlp_dim=32,
  num_decoder_layers=1,
  positions="rotary",
)
CASE = step_cases.make("tiny", TINY, 2, targets=8)

# A run without TensorFlow, which takes most of a start.
RUN = """
from __gin__ import dynamic_registration
from t5x_style.models import config
from t5x_style.training import optimizers
from t5x_style.training import train_config
from t5x_style.training import schedules
from t5x_style.training import synthetic

LOG_PERIOD = 100
config.TransformerConfig:
  vocab_size = 64
  emb_dim = 16
  num_heads = 2
  head_dim = 8
  mlp_dim = 32
  num_decoder_layers = 2
synthetic.load:
  feature_lengths = {"targets": 8}
  vocab_size = 64
schedules.constant.peak = 0.001
train_config.TrainConfig:
  model = @config.TransformerConfig()
  dataset = @synthetic.load
  optimizer = @optimizers.adamw
  schedule = @schedules.constant()
  model_dir = %MODEL_DIR
  train_steps = %TRAIN_STEPS
  log_period = %LOG_PERIOD
  eval_batches = 1
  batch_size = 2
"""


def programs(folder):
  return [path.name for path in folder.iterdir()]


@pytest.fixture
def cache(tmp_path):
  """A compilation cache only for this test, which also stores small programs."""
  names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
  before = [getattr(jax.config, name) for name in names]
  set_cache(names, (str(tmp_path), 0.0))
  yield tmp_path
  set_cache(names, before)


def set_cache(names, values):
  for name, value in zip(names, values, strict=True):
    jax.config.update(name, value)
  startup.compilation_cache.reset_cache()


@pytest.mark.slow
def test_layers_are_compiled_each_time_without_the_cache(cache):
  few, many = startup.compilations(CASE, (2, 5), rounds=1)
  assert not any("train_step" in name for name in programs(cache))
  assert (few["label"], many["label"]) == ("2 layers", "5 layers")
  layer = 4 * 16 * 16 + 3 * 16 * 32 + 2 * 16  # attention, gated MLP, two norms
  assert many["num_parameters"] - few["num_parameters"] == 3 * layer
  assert few["ratio"] == 1
  assert many["ratio"] == many["rounds"][0] / few["rounds"][0]
  jax.jit(lambda x: x + 1)(1.0)
  assert any("lambda" in name for name in programs(cache))  # The cache is on again.


@pytest.mark.slow
def test_a_save_is_what_the_loop_waits_for(monkeypatch):
  save, wait = Checkpoints.save, Checkpoints.wait
  steps = []

  def slow_save(self, state, *arguments, **named):
    time.sleep(0.3)
    save(self, state, *arguments, **named)
    steps.append(int(state.step))

  def slow_wait(self, **of_save):
    time.sleep(0 if of_save else 0.4)  # A save waits for the one before, which is done here.
    wait(self, **of_save)

  monkeypatch.setattr(Checkpoints, "save", slow_save)
  monkeypatch.setattr(Checkpoints, "wait", slow_wait)
  row = startup.saves(CASE, rounds=2)
  assert steps == [2, 4]  # One step at first, one before each save, one during each.
  assert row["state_bytes"] == pytest.approx(12 * row["num_parameters"], abs=1200)
  assert row["save_seconds"] >= 0.3
  assert row["written_seconds"] >= row["save_seconds"] + row["next_step_seconds"] + 0.4 - 0.05
  assert row["ratio"] == pytest.approx(row["save_seconds"] / row["step_seconds"])
  assert row["step_seconds"] < 0.3 and row["next_step_seconds"] < 0.3


@pytest.mark.slow
def test_a_second_start_finds_the_step_compiled(tmp_path, capsys):
  path = tmp_path / "tiny.gin"
  path.write_text(RUN)
  rows = list(startup.measure([str(path)], ["schedules.constant.peak = 0.01"]))
  first, second = rows
  assert (first["label"], second["label"]) == ("first start", "second start")
  assert second["compile_seconds"] < 0.6 * first["compile_seconds"]
  assert second["ratio"] == second["compile_seconds"] / first["compile_seconds"]
  for row in rows:
    parts = row["before_seconds"] + row["compile_seconds"] + row["first_step_seconds"]
    assert row["total_seconds"] == pytest.approx(parts)
    assert row["before_seconds"] > 1  # Importing JAX takes longer.
  benchmark.show(startup, rows)
  assert "to step 1 s" in capsys.readouterr().out


def test_a_run_that_does_not_start_says_why(tmp_path):
  path = tmp_path / "tiny.gin"
  path.write_text(RUN.replace("emb_dim = 16", "emb_dim = 0"))
  with pytest.raises(ConfigurationError, match="emb_dim = 0"):
    next(startup.measure([str(path)]))


def test_bindings_without_a_file_are_refused():
  with pytest.raises(ConfigurationError, match="add --gin_file=quickstart_causal_lm.gin"):
    next(startup.measure(gin_bindings=["BATCH_SIZE = 2"]))
