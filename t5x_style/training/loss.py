"""The loss of a model on a batch, normalised, and the sums that are reported."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from t5x_style.losses import gather_targets, linear_cross_entropy, pair_classification_loss
from t5x_style.models import Transformer
from t5x_style.ranges import FractionBelowOne, NonNegativeFloat, PositiveFloat

Batch = dict[str, jax.Array]
Sums = dict[str, jax.Array]

Normalizer = Literal["NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE"]


@dataclasses.dataclass(frozen=True)
class LossOptions:
  """How target tokens turn into the number that is minimised.

  Attributes:
    z_loss: weight of log(Z)^2, which keeps the logits near normalised (T5X: 1e-4).
    label_smoothing: probability spread over the vocabulary.
    normalizing_factor: what the summed loss is divided by, with T5X's names: the weight of the
      target tokens that carry loss (None or NUM_REAL_TARGET_TOKENS), the number of all target
      positions (NUM_TOTAL_TARGET_TOKENS), the number of sequences after each sequence is averaged
      over its own tokens (AVERAGE_PER_SEQUENCE; several sequences packed in a row count each), or
      a constant. None differs from T5X, where it leaves the sum undivided; write 1.0 for that.
  """

  z_loss: NonNegativeFloat = 0.0
  label_smoothing: FractionBelowOne = 0.0
  normalizing_factor: PositiveFloat | Normalizer | None = None


@dataclasses.dataclass(frozen=True)
class TrainingLoss:
  """The loss of a model on the features of a batch; the same for every objective.

  Reports sums over the batch: "loss" and "z_loss" in nats, "correct" and "weight" in target tokens,
  "tokens" the model read that are not padding, "bytes" of target text. They do not depend on the
  normalizing factor.

  Attributes:
    max_targets: how many positions of a row carry loss at most, where they are few (masked LM):
      only those are projected on the vocabulary. None projects all.
    token_bytes: UTF-8 bytes of each id [V], to report bits per byte; None where not defined.
    num_components: how many parts of a mixture to report on, by the ids in *_component_ids.
  """

  model: Transformer
  options: LossOptions = LossOptions()
  max_targets: int | None = None
  token_bytes: Any = None
  num_components: int = 0

  @property
  def side(self) -> str:
    """The half of the model whose tokens are predicted."""
    return "encoder" if self.model.config.architecture == "encoder_only" else "decoder"

  def scales(self, batch: Batch) -> Sums:
    """What each summed loss is multiplied by: one over the global count that normalises it."""
    factor = self.options.normalizing_factor
    if factor in (None, "NUM_REAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE"):
      count = self._weights(batch).sum()
    elif factor == "NUM_TOTAL_TARGET_TOKENS":
      count = jnp.float32(batch[f"{self.side}_loss_weights"].size)
    else:
      count = jnp.float32(factor)
    scales = {"tokens": 1.0 / jnp.maximum(count, 1e-9)}
    if "pair_labels" in batch:
      scales["pairs"] = 1.0 / jnp.maximum(self._pair_weights(batch).sum(), 1e-9)
    return scales

  def __call__(
    self, params: Any, batch: Batch, scales: Sums, rng: jax.Array | None = None
  ) -> tuple[jax.Array, Sums]:
    """(the normalised loss to differentiate, sums to report). Dropout is on when rng is given."""
    features = self._features(batch)
    out = self.model.apply(
      {"params": params},
      batch,
      features.pop("positions", None),
      rngs=None if rng is None else {"dropout": rng},
    )
    targets, weights = features["targets"], features["weights"]
    averaged = self.options.normalizing_factor == "AVERAGE_PER_SEQUENCE"
    loss = linear_cross_entropy(
      out.hidden,
      out.kernel,
      targets,
      features["averaging_weights"] if averaged else weights,
      bias=out.bias,
      z_loss=self.options.z_loss,
      label_smoothing=self.options.label_smoothing,
      logit_soft_cap=self.model.config.logit_soft_cap,
      return_per_token=bool(self.num_components) or averaged,
    )
    total = scales["tokens"] * loss.loss_sum
    if averaged:
      loss = loss.reweighted(weights)
    sums = {
      "loss": loss.loss_sum - loss.z_loss_sum,
      "z_loss": loss.z_loss_sum,
      "correct": loss.correct_sum,
      "weight": loss.weight_sum,
    }
    # Where ids do not tell padding, segments do.
    read = [
      batch.get(f"{side}_segment_ids", batch[f"{side}_{kind}_tokens"])
      for side, kind in (("encoder", "input"), ("decoder", "target"))
      if f"{side}_{kind}_tokens" in batch
    ]
    sums["tokens"] = sum(((x > 0).sum() for x in read), start=jnp.zeros((), jnp.float32))
    if self.token_bytes is not None:
      lengths = jnp.take(jnp.asarray(self.token_bytes, jnp.float32), targets)
      sums["bytes"] = (lengths * (weights > 0)).sum()
    if self.num_components:
      assert loss.per_token is not None
      ids = jax.nn.one_hot(features["components"], self.num_components)
      sums["component_loss"] = jnp.einsum("blc,bl->c", ids, loss.per_token.loss * weights)
      sums["component_weight"] = jnp.einsum("blc,bl->c", ids, weights)
    if "pair_labels" in batch:
      labels = jnp.maximum(batch["pair_labels"], 0)
      pair = pair_classification_loss(out.pooled_logits, labels, self._pair_weights(batch))
      total += scales["pairs"] * pair.loss_sum
      sums |= {
        "pair_loss": pair.loss_sum,
        "pair_correct": pair.correct_sum,
        "pair_weight": pair.weight_sum,
      }
    return total, sums

  def _pair_weights(self, batch):
    """[B]: 1 for rows that hold a pair. Label -1 says there is none; padding has no loss."""
    used = batch[f"{self.side}_loss_weights"].sum(-1) > 0
    return (used & (batch["pair_labels"] >= 0)).astype(jnp.float32)

  def _weights(self, batch):
    """[B, L]: the weights of the loss that is minimised."""
    weights = batch[f"{self.side}_loss_weights"].astype(jnp.float32)
    if self.options.normalizing_factor != "AVERAGE_PER_SEQUENCE":
      return weights
    return averaging_weights(weights, batch.get(f"{self.side}_segment_ids"))

  def _features(self, batch):
    """Targets and weights [B, L]; or [B, P] and the positions where only P per row carry loss."""
    names = {"targets": "target_tokens", "weights": "loss_weights"}
    if self.num_components:
      names["components"] = "component_ids"
    features = {name: batch[f"{self.side}_{suffix}"] for name, suffix in names.items()}
    features["weights"] = features["weights"].astype(jnp.float32)
    if self.options.normalizing_factor == "AVERAGE_PER_SEQUENCE":
      features["averaging_weights"] = self._weights(batch)
    if self.max_targets is not None:
      positions, features = gather_targets(features, features["weights"], self.max_targets)
      features["positions"] = positions
    return features


def averaging_weights(weights: jax.Array, segment_ids: jax.Array | None) -> jax.Array:
  """Weights that sum to 1 over each sequence whose tokens carry loss, as T5X's losses.py has them.

  weights      [[2, 2, 0, 1, 0]]
  segment_ids  [[1, 1, 1, 2, 0]]
  returns      [[.5, .5, 0, 1, 0]]

  Args:
    weights: float [B, L], not negative.
    segment_ids: int [B, L], from 1, 0 being padding; None where a row is one sequence.
  """
  if segment_ids is None:
    sums = weights.sum(-1, keepdims=True)
  else:
    count = weights.shape[-1] + 1  # A row of L tokens holds at most L segments, and padding.
    by_segment = jax.vmap(lambda x, ids: jax.ops.segment_sum(x, ids, count))(weights, segment_ids)
    sums = jnp.take_along_axis(by_segment, segment_ids, axis=-1)
  return jnp.where(sums > 0, weights / jnp.where(sums > 0, sums, 1.0), 0.0)
