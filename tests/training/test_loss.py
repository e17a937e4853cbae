"""The loss: what each normalizing factor divides by, and what is reported in addition."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.training import metrics, setup
from t5x_style.training.loss import LossOptions, averaging_weights, whole_sequences
from t5x_style.training.step import make_train_step
from tests import tiny

# Two rows of 8 tokens: three sequences with loss and one without, of very different lengths.
SEGMENTS = np.array([[1, 1, 1, 1, 1, 2, 0, 0], [1, 1, 2, 2, 2, 2, 2, 2]])
WEIGHTS = np.array([[1, 1, 1, 1, 0, 2, 0, 0], [0, 0, 1, 1, 0.5, 0, 0, 0]], np.float32)


def test_averaging_weights_sum_to_one_over_each_sequence():
  np.testing.assert_allclose(
    averaging_weights(jnp.asarray(WEIGHTS), jnp.asarray(SEGMENTS)),
    [[0.25, 0.25, 0.25, 0.25, 0, 1, 0, 0], [0, 0, 0.4, 0.4, 0.2, 0, 0, 0]],
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    averaging_weights(jnp.asarray(WEIGHTS), None).sum(-1), [1, 1], rtol=1e-6
  )


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
  """Returns a tiny decoder, its parameters, a packed batch, and losses per token by log_softmax."""
  prepared = setup.prepare(
    tiny.config("decoder_only", tmp_path_factory.mktemp("run"), batch_size=2)
  )
  batch = dict(next(prepared.dataset.train()))
  batch["decoder_segment_ids"] = SEGMENTS.astype(np.int32)
  batch["decoder_positions"] = np.array([[0, 1, 2, 3, 4, 0, 0, 0], [0, 1, 0, 1, 2, 3, 4, 5]])
  batch["decoder_loss_weights"] = WEIGHTS
  params = prepared.init(0).params
  out = prepared.loss.model.apply({"params": params}, batch)
  log_probs = jax.nn.log_softmax(out.logits(None))
  targets = batch["decoder_target_tokens"][..., None]
  losses = -np.take_along_axis(np.asarray(log_probs, np.float64), targets, axis=-1)[..., 0]
  return prepared, params, batch, losses


@pytest.mark.parametrize(
  ("factor", "expected"),
  [
    (None, lambda x: (x * WEIGHTS).sum() / WEIGHTS.sum()),
    ("NUM_REAL_TARGET_TOKENS", lambda x: (x * WEIGHTS).sum() / WEIGHTS.sum()),
    ("NUM_TOTAL_TARGET_TOKENS", lambda x: (x * WEIGHTS).sum() / 16),
    # Each sequence's own mean, whatever row it is in; the one without loss counts for nothing.
    (
      "AVERAGE_PER_SEQUENCE",
      lambda x: (x[0, :4].mean() + x[0, 5] + np.average(x[1, 2:5], weights=[1, 1, 0.5])) / 3,
    ),
    (7.0, lambda x: (x * WEIGHTS).sum() / 7),
  ],
)
def test_a_normalizing_factor_scales_the_loss_but_not_what_is_reported(factor, expected, packed):
  prepared, params, batch, losses = packed
  loss = dataclasses.replace(
    prepared.loss,
    options=LossOptions(normalizing_factor=factor),
    token_bytes=np.full(96, 3.0),
  )
  total, sums = loss(params, batch, loss.scales(batch))
  np.testing.assert_allclose(total, expected(losses), rtol=1e-5)
  np.testing.assert_allclose(sums.loss, (losses * WEIGHTS).sum(), rtol=1e-5)
  np.testing.assert_allclose(sums.weight, WEIGHTS.sum(), rtol=1e-6)
  assert float(sums.bytes) == 3 * WEIGHTS.sum()


def test_sequences_are_averaged_the_same_in_microbatches(packed):
  """Microbatches hold different numbers of sequences; the loss is divided by that of the batch."""
  prepared, _, batch, _ = packed
  options = LossOptions(normalizing_factor="AVERAGE_PER_SEQUENCE", z_loss=1e-3)
  loss = dataclasses.replace(prepared.loss, options=options)
  results = []
  for parts in (1, 2):
    step = make_train_step(loss, prepared.optimizer, prepared.config.schedule, parts)
    _, metrics = jax.jit(step)(prepared.init(0), batch)
    results.append(metrics)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), *results)


def test_only_positions_with_loss_give_the_same_average_as_all(tiny_config, tmp_path):
  """A masked LM computes logits only where there is loss; that changes no result."""
  prepared = setup.prepare(tiny_config("encoder_only", tmp_path))
  batch = dict(next(prepared.dataset.train()))
  batch["encoder_loss_weights"] = batch["encoder_loss_weights"].copy()
  batch["encoder_loss_weights"][0, 4:] = 0.0
  params = prepared.init(0).params
  options = LossOptions(normalizing_factor="AVERAGE_PER_SEQUENCE")
  results = []
  for max_targets in (prepared.loss.max_targets, None):
    loss = dataclasses.replace(prepared.loss, options=options, max_targets=max_targets)
    results.append(loss(params, batch, loss.scales(batch)))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), *results)


def test_a_sequence_is_right_only_as_a_whole():
  correct = jnp.array([[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0, 0]])
  assert whole_sequences(correct, jnp.asarray(WEIGHTS), jnp.asarray(SEGMENTS)) == (2, 3)
  # Without segments the first row is one sequence, whose target at 5 is wrong.
  assert whole_sequences(correct, jnp.asarray(WEIGHTS), None) == (1, 2)


def test_exact_matches_are_what_greedy_decoding_would_write(packed):
  """The targets of one sequence are replaced by the likeliest tokens; the others stay."""
  prepared, params, batch, _ = packed
  out = prepared.loss.model.apply({"params": params}, batch)
  likeliest = np.asarray(out.logits(None).argmax(-1))
  rows = np.where((SEGMENTS == 1) & (WEIGHTS > 0), likeliest, batch["decoder_target_tokens"])
  loss = dataclasses.replace(prepared.loss, exact_match=True)
  _, sums = loss(params, batch | {"decoder_target_tokens": rows}, loss.scales(batch))
  assert (int(sums.sequences_right), int(sums.sequences)) == (1, 3)
  assert metrics.means(jax.device_get(sums))["exact_match"] == pytest.approx(1 / 3)
  assert prepared.loss(params, batch, loss.scales(batch))[1].sequences is None


def test_labels_of_rows_are_the_only_loss(tiny_config, tmp_path):
  """Cross-entropy by hand; a row of padding counts for nothing, and no token does."""
  changes = {"model": {"pooled_classes": 3}, "batch_size": 4}
  prepared = setup.prepare(tiny_config("encoder_only", tmp_path, **changes))
  batch = dict(next(prepared.dataset.train()))
  weights = np.zeros((4, 16), np.float32)
  weights[:3, 0] = 1
  batch |= {"encoder_loss_weights": weights, "pair_labels": np.array([0, 2, 1, 0], np.int32)}
  params = prepared.init(0).params
  logits = np.asarray(prepared.loss.model.apply({"params": params}, batch).pooled_logits, float)
  log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  for smoothing in (0.0, 0.3):
    options = LossOptions(label_smoothing=smoothing)
    loss = dataclasses.replace(prepared.loss, labels_only=True, options=options)
    total, sums = loss(params, batch, loss.scales(batch))
    chosen = log_probs[[0, 1, 2], [0, 2, 1]]
    expected = -((1 - smoothing) * chosen + smoothing * log_probs[:3].mean(-1)).mean()
    assert total == pytest.approx(expected, rel=1e-5)
    assert metrics.means(jax.device_get(sums)) == {
      "loss": pytest.approx(expected, rel=1e-5),
      "accuracy": pytest.approx((logits[:3].argmax(-1) == [0, 2, 1]).mean()),
    }
