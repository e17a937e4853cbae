"""torch.nn.functional.cross_entropy on random shapes; skipped where PyTorch is not installed."""

import jax
import numpy as np
import pytest

from t5x_style.losses import linear_cross_entropy

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("seed", range(8))
def test_torch_agrees(seed, random_inputs, assert_near):
  rng = np.random.default_rng(seed)
  tokens, emb_dim, vocab_size = rng.integers(1, 200), rng.integers(1, 64), rng.integers(2, 3000)
  hidden, kernel, bias, targets, _ = random_inputs((tokens,), emb_dim, vocab_size, seed)
  weights = (rng.random(tokens) < 0.7).astype(np.float32)
  smoothing = float(rng.choice([0.0, 0.1]))

  theirs = [torch.tensor(x, requires_grad=True) for x in (hidden, kernel, bias)]
  ignored = torch.tensor(np.where(weights, targets, -100), dtype=torch.long)
  # PyTorch spreads the smoothed probability over all ids, the target among them.
  loss = torch.nn.functional.cross_entropy(
    theirs[0] @ theirs[1] + theirs[2],
    ignored,
    reduction="sum",
    label_smoothing=smoothing * vocab_size / (vocab_size - 1),
  )
  loss.backward()

  def ours(hidden, kernel, bias):
    return linear_cross_entropy(
      hidden,
      kernel,
      targets,
      weights,
      bias=bias,
      label_smoothing=smoothing,
      chunk_size=int(rng.integers(1, 100)),
    ).loss_sum

  value, grads = jax.value_and_grad(ours, (0, 1, 2))(hidden, kernel, bias)
  if smoothing:  # PyTorch does not subtract the entropy of the smoothed targets.
    low = smoothing / (vocab_size - 1)
    entropy = -((1 - smoothing) * np.log(1 - smoothing) + smoothing * np.log(low))
    value = value + weights.sum() * entropy
  assert_near(value, loss.item(), 1e-5)
  for x, y in zip(grads, theirs, strict=True):
    assert_near(x, y.grad.numpy(), 1e-5)
