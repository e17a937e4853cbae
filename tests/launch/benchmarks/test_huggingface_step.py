"""The peer of the step benchmark trains the same model in the same way."""

import jax
import pytest

from launch.benchmarks import huggingface_models, huggingface_step, step_cases
from launch.benchmarks.flax_step import FlaxStep
from launch.torch_peers import parameters
from tests.launch.benchmarks.tiny_cases import FAMILIES, prepared_case


@pytest.mark.parametrize("name", FAMILIES)
def test_the_peer_is_the_same_model(name):
  """It has the same loss with the same weights, none of which has its initial value."""
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
  config = prepared.config.model
  weights = parameters.tensors(config, params, huggingface_models.family(config))
  for target_positions_only in (True, False) if name == "bert" else (True,):
    peer = huggingface_step.TorchStep(
      "", prepared, weights, batches, 0.0, target_positions_only=target_positions_only
    )
    assert peer.loss(peer.step(0)) == pytest.approx(expected, rel=1e-5)


def test_the_peer_learns_the_same():
  """With AdamW, its decay and clipping, the third loss is the same after two steps."""
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  prepared, batches = prepared_case("gpt2", layers=2)
  ours = FlaxStep(prepared, batches)
  weights = parameters.tensors(prepared.config.model, ours.state.params, "gpt2")
  peer = huggingface_step.TorchStep("", prepared, weights, batches, step_cases.LEARNING_RATE)
  losses = [ours.loss(ours.step(i)) for i in range(3)]
  assert [peer.loss(peer.step(i)) for i in range(3)] == pytest.approx(losses, rel=1e-5)
  assert losses[2] < losses[0] - 1e-3  # The first batch again.
