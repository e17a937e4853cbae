"""The training step's benchmark: what it measures, and that its peer trains the same thing."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from launch.benchmarks import huggingface_models, huggingface_step, step, step_cases
from launch.benchmarks.flax_step import FlaxStep
from launch.configuration.errors import ConfigurationError

ROOT = Path(__file__).parents[3]
SMALL = {"emb_dim": 32, "num_heads": 4, "head_dim": 8, "mlp_dim": 48, "vocab_size": 96}
T5_LENGTHS = {"inputs": 16, "targets": 8}
FAMILIES = {
  "t5": (step_cases.T5, T5_LENGTHS),
  "t5 untied": (dataclasses.replace(step_cases.T5, tie_embeddings=False), T5_LENGTHS),
  "bert": (step_cases.BERT, {"inputs": 16}),
  "gpt2": (step_cases.GPT2, {"targets": 16}),
  "llama": (
    dataclasses.replace(step_cases.DECODER_1B, num_kv_heads=2, rotary_base=100.0),
    {"targets": 16},
  ),
}


def prepared_case(name, **changes):
  """A tiny model of the family, prepared, and two batches."""
  model, lengths = FAMILIES[name]
  most = changes.pop("layers", 1)
  layers = {
    field: min(most, getattr(model, field))
    for field in ("num_encoder_layers", "num_decoder_layers")
  }
  model = dataclasses.replace(model, **{**SMALL, **layers, "dtype": "float32", **changes})
  case = step_cases.comparable(step_cases.make(name, model, 2, **lengths))
  prepared = step_cases.prepare(case)
  stream = prepared.dataset.train()
  return prepared, [next(stream) for _ in range(2)]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_peer_is_the_same_model(name):
  """The same loss from the same weights, every parameter away from its initial value."""
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  prepared, batches = prepared_case(name, scan_layers=False)
  params = prepared.init(0).params
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  noisy = [x + 0.1 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
  params = jax.tree.unflatten(tree, noisy)
  loss, batch = prepared.loss, batches[0]
  expected = float(jax.jit(lambda p, b: loss(p, b, loss.scales(b))[0])(params, batch))
  weights = huggingface_models.weights(prepared.config.model, params)
  for chosen_only in (True, False) if name == "bert" else (True,):
    peer = huggingface_step.TorchStep("", prepared, weights, batches, 0.0, chosen_only=chosen_only)
    assert peer.loss(peer.step(0)) == pytest.approx(expected, rel=1e-5)


def test_the_peer_learns_the_same():
  """AdamW, its decay, the clipping: after two steps at a high rate the third loss is the same."""
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  prepared, batches = prepared_case("gpt2", layers=2)
  ours = FlaxStep(prepared, batches)
  weights = huggingface_models.weights(prepared.config.model, ours.state.params)
  peer = huggingface_step.TorchStep("", prepared, weights, batches, step_cases.LEARNING_RATE)
  losses = [ours.loss(ours.step(i)) for i in range(3)]
  assert [peer.loss(peer.step(i)) for i in range(3)] == pytest.approx(losses, rel=1e-5)
  assert losses[2] < losses[0] - 1e-3  # The first batch again, better known.


def test_losses_that_differ_end_the_comparison():
  step._check_agreement([2.0, 1.0], [2.0, 1.0005], "float32", "HF")
  with pytest.raises(ValueError, match="does not train the same model"):
    step._check_agreement([2.0, 1.0], [2.0, 1.01], "float32", "HF")
  with pytest.raises(ValueError, match="does not train the same model"):
    step._check_agreement([2.0], [float("nan")], "bfloat16", "HF")


def test_a_model_that_transformers_has_not_is_refused():
  with pytest.raises(ConfigurationError, match="scale_logits True"):
    huggingface_models.family(dataclasses.replace(step_cases.GPT2, scale_logits=True))
  config = dataclasses.replace(step_cases.GPT2, positions="rotary")
  with pytest.raises(ConfigurationError, match="positions 'rotary'"):
    huggingface_models.family(config)


PROGRAM = """
import sys
for name in ("tensorflow", "seqio", "tensorboardX", "torch", "transformers", "matplotlib"):
  sys.modules[name] = None  # As where it is not installed.
from launch import benchmark
benchmark.main(sys.argv)
"""


def run_bare(*arguments):
  """The command where neither TensorFlow nor any other library beyond JAX's can be imported."""
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


def test_targets_follow_from_inputs_as_in_span_corruption():
  assert step_cases._complete({"inputs": 512}, "encoder_decoder") == {"inputs": 512, "targets": 114}
  assert step_cases._complete({"inputs": 128}, "encoder_only") == {"inputs": 128}


class Clock:
  """Takes as long as it says: seconds of one step, and on GPUs twice as long after a rest."""

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
  taken = step._rounds(clocks)
  assert [clock.rests for clock in clocks] == [1 + len(taken["fast"])] * 2
  assert taken["fast"] == pytest.approx([0.25] * len(taken["fast"]))
  assert taken["slow"] == pytest.approx([2.0] * len(taken["fast"]))
  compared = step._comparison(taken["fast"], taken["slow"], [2.0, 1.0], [2.0, 1.5])
  assert compared["ratio"] == pytest.approx(0.125)
  assert compared["loss_difference"] == 0.5


@pytest.mark.parametrize(("backend", "times"), [("cpu", 1), ("gpu", 2)])
def test_an_accelerator_alone_gets_twice_the_rows(monkeypatch, backend, times):
  monkeypatch.setattr(step_cases.jax, "default_backend", lambda: backend)
  beside, alone = (step._asked((), (), (), against) for against in ("hf", None))
  rows = [(x.config.batch_size, y.config.batch_size) for x, y in zip(beside, alone, strict=True)]
  assert len(rows) == 3
  assert all(more == times * few for few, more in rows)


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
