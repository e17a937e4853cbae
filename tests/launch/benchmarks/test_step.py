"""The step benchmark: its rows, its rounds in turns, its mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.benchmarks import step
from launch.process.errors import ConfigurationError

ROOT = Path(__file__).parents[3]


def test_losses_that_differ_end_the_comparison():
  step._check_agreement([2.0, 1.0], [2.0, 1.0005], "float32", "HF")
  with pytest.raises(ValueError, match="does not train the same model"):
    step._check_agreement([2.0, 1.0], [2.0, 1.01], "float32", "HF")
  with pytest.raises(ValueError, match="does not train the same model"):
    step._check_agreement([2.0], [float("nan")], "bfloat16", "HF")


PROGRAM = """
import sys
for name in ("tensorflow", "seqio", "tensorboardX", "torch", "transformers", "matplotlib"):
  sys.modules[name] = None  # As if it were not installed.
from launch import benchmark
benchmark.main(sys.argv)
"""


def run_bare(*arguments):
  """Runs the command where TensorFlow and other libraries cannot be imported."""
  return subprocess.run(
    [sys.executable, "-c", PROGRAM, *arguments],
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=300,
  )


@pytest.mark.slow
def test_a_run_of_gin_files_is_measured_without_tensorflow():
  done = run_bare(
    "step",
    "--gin_file=quickstart_causal_lm.gin",
    "--gin.BATCH_SIZE=2",
    "--gin.TASK_FEATURE_LENGTHS={'targets': 32}",
    "--gin.config.TransformerConfig.num_decoder_layers=1",
    "--json",
  )
  assert done.returncode == 0, done.stderr
  (line,) = done.stdout.splitlines()
  row = json.loads(line)
  assert row["tokens_per_second"] == pytest.approx(2 * 32 / row["step_seconds"])
  assert row["tflops"] == pytest.approx(row["step_flops"] / row["step_seconds"] / 1e12)
  assert row["mfu"] is None  # The peak of a CPU is not known.
  assert row["peak_bytes"] > 16 * row["num_parameters"]  # Parameters, two moments, gradients.
  assert row["compile_seconds"] > 0


def test_without_torch_the_peer_says_what_to_install():
  done = run_bare("step", "--against=hf")
  assert done.returncode != 0
  assert "pip install torch transformers" in done.stderr


class Clock:
  """A contestant whose step takes `seconds`, and on GPUs twice as long after a rest."""

  def __init__(self, label, seconds, now):
    self.label, self._seconds, self._now, self.rests = label, seconds, now, 0
    self._rested = False

  def step(self, number):
    slow = self._rested and step.jax.default_backend() == "gpu"
    self._now[0] += self._seconds * (2 if slow else 1)
    self._rested = False

  def loss(self, sums):
    return 0.0

  def rest(self):
    self.rests += 1
    self._rested = True


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_rounds_take_turns_and_hold_several_short_steps(monkeypatch, backend):
  monkeypatch.setattr(step.jax, "default_backend", lambda: backend)
  now = [0.0]
  monkeypatch.setattr(step.time, "perf_counter", lambda: now[0])
  clocks = [Clock("fast", 0.25, now), Clock("slow", 2.0, now)]
  taken = step.rounds_in_turns(clocks)
  assert [clock.rests for clock in clocks] == [1 + len(taken["fast"])] * 2
  assert taken["fast"] == pytest.approx([0.25] * len(taken["fast"]))
  assert taken["slow"] == pytest.approx([2.0] * len(taken["fast"]))
  compared = step._comparison(taken["fast"], taken["slow"], [2.0, 1.0], [2.0, 1.5])
  assert compared["ratio"] == pytest.approx(0.125)
  assert compared["loss_difference"] == 0.5


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"against": "hff"}, "Did you mean 'hf'?"),
    ({"gin_bindings": ["BATCH_SIZE = 2"]}, "add --gin_file=quickstart.gin"),
    ({"gin_file": ["runs/pretrain.gin"]}, "MODEL"),
  ],
)
def test_mistakes(arguments, message):
  with pytest.raises(ConfigurationError) as caught:
    next(step.measure(**arguments))
  assert message in str(caught.value)
