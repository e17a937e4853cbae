"""The loss of a label for each row: next-sentence and sentence-order prediction, classification."""

import jax
import jax.numpy as jnp

from t5x_style.losses.chunk_cross_entropy import TokenLosses
from t5x_style.losses.linear_cross_entropy import LossSums, weighted_sum


def pair_classification_loss(
  logits: jax.Array, labels: jax.Array, weights: jax.Array, label_smoothing: float = 0.0
) -> LossSums:
  """Returns the cross-entropy of the classes of rows, summed over weighted rows.

  The rows are sentence pairs (Devlin 2018, section 3.1; Lan 2019, section 3.1) or texts to classify
  (Devlin 2018, section 4.1).

  Args:
    logits: [B, C], of the head on the first token.
    labels: int [B], from 0 to C - 1; other labels make the loss NaN.
    weights: [B]; a row of weight 0 has no influence, even where its logits are NaN.
    label_smoothing: probability spread evenly over the classes (Szegedy 2015, section 7).

  Returns:
    The sums of linear_cross_entropy, without z-loss; per_token holds a value [B] for each row.

  Raises:
    ValueError: the shapes do not fit.
  """
  if logits.shape[:-1] != labels.shape or labels.shape != weights.shape:
    raise ValueError(
      f"logits {logits.shape} must be [B, C], labels {labels.shape} and "
      f"weights {weights.shape} [B]."
    )
  weights = weights.astype(jnp.float32)
  counted = weights != 0
  logits = jnp.where(counted[..., None], logits.astype(jnp.float32), 0.0)
  log_probs = jax.nn.log_softmax(logits)
  columns = jnp.arange(logits.shape[-1])
  chosen = jnp.where(columns == labels[..., None], log_probs, 0.0).sum(-1)
  known = (labels >= 0) & (labels < logits.shape[-1])
  if label_smoothing:
    chosen = (1 - label_smoothing) * chosen + label_smoothing * log_probs.mean(-1)
  losses = jnp.where(counted, jnp.where(known, -chosen, jnp.nan), 0.0)
  correct = (counted & (logits.argmax(-1) == labels)).astype(jnp.float32)
  return LossSums(
    loss_sum=weighted_sum(weights, losses),
    z_loss_sum=jnp.zeros((), jnp.float32),
    weight_sum=weights.sum(),
    correct_sum=weighted_sum(weights, correct),
    per_token=TokenLosses(losses, jnp.zeros_like(losses), correct),
  )
