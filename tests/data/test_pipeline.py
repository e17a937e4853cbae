"""Batches of mixtures and of the user's own SeqIO tasks."""

import jax
import numpy as np
import pytest
import seqio
import tensorflow as tf

from t5x_style.data import loader
from t5x_style.data.objectives.ul2 import UL2

ARCHITECTURES = ["encoder_decoder", pytest.param("decoder_only", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def own_tasks(corpus, vocabulary):
  """Plain SeqIO tasks as a user writes them."""
  feature = seqio.Feature(vocabulary, add_eos=True)

  @seqio.map_over_dataset
  def halves(example):
    middle = tf.strings.length(example["text"]) // 2
    return {
      "inputs": tf.strings.substr(example["text"], 0, tf.minimum(middle, 30)),
      "targets": tf.strings.substr(example["text"], middle, 20),
    }

  for name in ("own_a", "own_b"):
    seqio.TaskRegistry.add(
      name,
      corpus.source(),
      output_features={"inputs": feature, "targets": feature},
      preprocessors=[
        halves,
        seqio.preprocessors.tokenize,
        seqio.preprocessors.append_eos_after_trim,
      ],
    )
  seqio.MixtureRegistry.add("own_mixture", [("own_a", 1), ("own_b", 3)])
  yield  # Tests of other modules may run between two of this one's: then it is set up again.
  seqio.MixtureRegistry.remove("own_mixture")
  for name in ("own_a", "own_b"):
    seqio.TaskRegistry.remove(name)


@pytest.mark.slow
def test_component_ids_follow_the_rates(load):
  data = load("encoder_decoder", UL2(rates=(0.5, 0.25, 0.25)), 32)
  assert data.component_names[:2] == ("R_3_15", "R_8_15")
  batches = data.train()
  ids = np.concatenate([next(batches)["decoder_component_ids"][:, 0] for _ in range(40)])
  shares = dict.fromkeys("RSX", 0.0)
  for i, name in enumerate(data.component_names):
    shares[name[0]] += (ids == i).mean()
  for name, rate in (("R", 0.5), ("S", 0.25), ("X", 0.25)):
    assert abs(shares[name] - rate) < 3.5 * np.sqrt(rate * (1 - rate) / len(ids))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["own_a", pytest.param("own_mixture", marks=pytest.mark.slow)])
@pytest.mark.parametrize("pack", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_users_own_task(architecture, name, pack, own_tasks):
  def run():
    return loader.load(
      architecture,
      4,
      0,
      mixture_or_task_name=name,
      feature_lengths={"inputs": 48, "targets": 32},
      pack=pack,
      shuffle_buffer_size=16,
    )

  data = run()
  assert data.component_names == (("own_a", "own_b") if name == "own_mixture" else ())
  batches = data.train()
  batch = next(batches)
  assert {
    k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()
  } == data.feature_shapes
  assert ("decoder_segment_ids" in batch) == pack
  assert all(("packing" in part) == pack for part in data.identity()["components"])
  weights, targets = batch["decoder_loss_weights"], batch["decoder_target_tokens"]
  assert (targets[weights > 0] > 0).all() and weights.any(axis=1).all()
  if architecture == "decoder_only":
    assert weights.mean() < (targets > 0).mean() and batch["decoder_causal_attention"].any()
  state = batches.get_state()
  after = [next(batches) for _ in range(3)]
  restored = run().train()
  restored.set_state(state)
  for batch in after:
    np.testing.assert_equal(next(restored), batch)
  assert len(data.evaluation(2)) >= 1
