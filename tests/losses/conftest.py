"""A plain loss with all logits, in NumPy and float64, that the kernels must equal."""

import numpy as np
import pytest


def plain(
  hidden,
  kernel,
  bias,
  targets,
  weights,
  z_loss=0.0,
  label_smoothing=0.0,
  logit_soft_cap=None,
):
  """Returns the fields of LossSums and the gradients, computed from their definitions.

  The gradients are by hidden, kernel and, where there is one, bias.
  """
  floats = (np.asarray(x, np.float64) for x in (hidden, kernel, weights))
  hidden, kernel, weights = floats
  logits = hidden @ kernel
  if bias is not None:
    logits = logits + np.asarray(bias, np.float64)
  slope = 1.0
  if logit_soft_cap is not None:
    decay = np.exp(-2 * np.abs(logits / logit_soft_cap))
    slope = 4 * decay / (1 + decay) ** 2  # sech^2
    logits = logit_soft_cap * np.tanh(logits / logit_soft_cap)
  top = logits.max(-1, keepdims=True)
  log_z = top + np.log(np.exp(logits - top).sum(-1, keepdims=True))
  log_probs, probs = logits - log_z, np.exp(logits - log_z)

  size = kernel.shape[1]
  hot = np.arange(size) == np.asarray(targets)[..., None]
  wanted = np.where(hot, 1 - label_smoothing, label_smoothing / (size - 1))
  surprise = np.zeros_like(wanted)  # x log x, which is 0 at 0.
  np.log(wanted, where=wanted > 0, out=surprise)
  loss = (wanted * (surprise - log_probs)).sum(-1)
  z_losses = z_loss * log_z[..., 0] ** 2
  correct = logits.argmax(-1) == targets
  sums = (
    (weights * (loss + z_losses)).sum(),
    (weights * z_losses).sum(),
    weights.sum(),
    (weights * correct).sum(),
    tuple(np.where(weights != 0, x, 0) for x in (loss, z_losses, correct)),
  )

  by_logits = weights[..., None] * (probs - wanted + 2 * z_loss * log_z * probs) * slope
  by_kernel = hidden.reshape(-1, len(kernel)).T @ by_logits.reshape(-1, size)
  grads = (by_logits @ kernel.T, by_kernel, by_logits.reshape(-1, size).sum(0))
  return sums, grads if bias is not None else grads[:2]


@pytest.fixture(scope="session")
def reference():
  return plain


@pytest.fixture(scope="session")
def random_inputs():
  """Makes float32 (hidden, kernel, bias, targets, weights); logits have a deviation of `spread`."""

  def make(leading, emb_dim, vocab_size, seed=0, spread=3.0):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    kernel = normal(emb_dim, vocab_size) * np.float32(spread / np.sqrt(emb_dim))
    targets = rng.integers(0, vocab_size, leading).astype(np.int32)
    weights = rng.random(leading).astype(np.float32)
    return normal(*leading, emb_dim), kernel, normal(vocab_size), targets, weights

  return make


@pytest.fixture(scope="session")
def assert_near():
  """Compares the largest difference of two arrays with tolerance * largest value + slack."""

  def check(ours, theirs, tolerance, name="", slack=0.0):
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, name
    error = np.abs(ours - theirs).max(initial=0)
    scale = np.abs(theirs).max(initial=0)
    assert error <= tolerance * scale + slack, f"{name}: differs by {error} of {scale}"

  return check
