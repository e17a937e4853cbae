"""The loss of sentence pairs follows the conventions of the token loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.losses import linear_cross_entropy, pair_classification_loss


def make(pairs=9, classes=2):
  rng = np.random.default_rng(0)
  logits = 4 * rng.normal(size=(pairs, classes)).astype(np.float32)
  return logits, rng.integers(0, classes, pairs), rng.random(pairs).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_same_sums_as_of_tokens(classes):
  """Logits are hidden states times an identity kernel."""
  logits, labels, weights = make(classes=classes)
  pairs = pair_classification_loss(logits, labels, weights)
  tokens = linear_cross_entropy(logits, jnp.eye(classes), labels, weights, return_per_token=True)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), pairs, tokens)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(pairs))


def test_gradient():
  logits, labels, weights = make()
  grads = jax.grad(lambda x: pair_classification_loss(x, labels, weights).loss_sum)(logits)
  odds = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  np.testing.assert_allclose(grads, weights[:, None] * (odds - np.eye(2)[labels]), atol=1e-6)


def test_rows_of_zero_weight_do_nothing():
  logits, labels, weights = make()
  weights[3], labels[3], logits[3] = 0.0, -1, np.nan
  loss = lambda x: pair_classification_loss(x, labels, weights).loss_sum
  value, grads = jax.value_and_grad(loss)(logits)
  assert np.isfinite(value) and np.isfinite(grads).all()
  assert np.all(grads[3] == 0)


def test_a_label_that_is_not_a_class_makes_the_loss_nan():
  logits, labels, weights = make()
  labels[1] = 2
  assert np.isnan(pair_classification_loss(logits, labels, weights).loss_sum)


def test_shapes_that_do_not_fit():
  with pytest.raises(ValueError, match=r"logits \(9, 2\) must be \[B, C\], labels \(9, 1\)"):
    pair_classification_loss(np.ones((9, 2)), np.ones((9, 1), int), np.ones(9))
