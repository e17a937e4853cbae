"""The normalised loss of a model on a batch, and the sums that are reported."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from t5x_style.architectures import predicted_side
from t5x_style.losses import (
  LossSums,
  gather_targets,
  linear_cross_entropy,
  pair_classification_loss,
)
from t5x_style.models import Batch, Outputs, Transformer
from t5x_style.models.expert_layer import ROUTING
from t5x_style.setting_types import FractionBelowOne, NonNegativeFloat, PositiveFloat
from t5x_style.training.expert_loss import router_loss, token_scales
from t5x_style.training.metrics import Sums

Normalizer = Literal["NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE"]


@dataclasses.dataclass(frozen=True)
class LossOptions:
  """How target tokens turn into the number that is minimised.

  Attributes:
    z_loss: weight of log(Z)^2, which keeps the logits almost normalised (T5X: 1e-4).
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


class LossScales(NamedTuple):
  """What the summed losses are multiplied by: one over the global counts that normalise them."""

  tokens: jax.Array
  pairs: jax.Array | None = None
  routers: dict[str, jax.Array] | None = None  # of each side of a model with experts


class _Targets(NamedTuple):
  """What is predicted, [B, L]; or [B, P] where at most P positions of a row carry loss."""

  tokens: jax.Array
  weights: jax.Array
  averaging_weights: jax.Array | None = None  # of the loss that is minimised, where they differ
  components: jax.Array | None = None  # ids of the parts of a mixture
  positions: jax.Array | None = None  # in the row, where only P of them are projected


@dataclasses.dataclass(frozen=True)
class TrainingLoss:
  """The loss of a model on the features of a batch; the same for every objective.

  Attributes:
    max_targets: the most positions of a row that carry loss, where they are few (masked LM): only
      these are projected on the vocabulary. None projects all.
    token_bytes: UTF-8 bytes of each id [V], to report bits per byte; None if it is not defined.
    num_components: how many parts a mixture has, whose ids are in *_component_ids.
    detailed: whether the bytes and the correct predictions of each part are summed too.
    labels_only: whether the labels of rows are all that is predicted (classification). The loss is
      then that of the labels, without z-loss, and a weight on a row's first token counts the row.
    exact_match: whether sequences of which every target is predicted right are counted.
  """

  model: Transformer
  options: LossOptions = LossOptions()
  max_targets: int | None = None
  token_bytes: Any = None
  num_components: int = 0
  detailed: bool = False
  labels_only: bool = False
  exact_match: bool = False

  @property
  def side(self) -> str:
    """The half of the model whose tokens are predicted."""
    return predicted_side(self.model.config.architecture)

  def scales(self, batch: Batch) -> LossScales:
    """Returns the scales of a global batch, which all its microbatches share."""
    factor = self.options.normalizing_factor
    if factor in (None, "NUM_REAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE"):
      count = self._weights(batch).sum()
    elif factor == "NUM_TOTAL_TARGET_TOKENS":
      count = jnp.float32(batch[f"{self.side}_loss_weights"].size)
    else:
      count = jnp.float32(factor)
    tokens, pairs = 1.0 / jnp.maximum(count, 1e-9), None
    if "pair_labels" in batch:
      pairs = 1.0 / jnp.maximum(self._pair_weights(batch).sum(), 1e-9)
    return LossScales(tokens, pairs, token_scales(self.model.config, batch))

  def __call__(
    self, params: Any, batch: Batch, scales: LossScales, rng: jax.Array | None = None
  ) -> tuple[jax.Array, Sums]:
    """Returns the normalised loss to differentiate and the sums to report.

    Args:
      batch: the global batch or a microbatch of it.
      scales: of the global batch.
      rng: for dropout, which is off if this is None.
    """
    if self.labels_only:
      return self._label_loss(params, batch, scales, rng)
    targets = self._targets(batch)
    out, routing = self._apply(params, batch, targets.positions, rng)
    loss = self._token_loss(out, targets)
    total = scales.tokens * loss.loss_sum
    if targets.averaging_weights is not None:
      loss = loss.reweighted(targets.weights)
    pairs = None
    if "pair_labels" in batch:
      labels = jnp.maximum(batch["pair_labels"], 0)
      pairs = pair_classification_loss(out.pooled_logits, labels, self._pair_weights(batch))
      assert scales.pairs is not None
      total += scales.pairs * pairs.loss_sum
    return self._with_routers(total, self._sums(batch, targets, loss, pairs), routing, scales)

  def _apply(self, params, batch, positions, rng):
    """Returns the outputs of the model, and what its routers did; {} without experts."""
    variables, rngs = {"params": params}, None if rng is None else {"dropout": rng}
    if self.model.config.experts is None:
      return self.model.apply(variables, batch, positions, rngs=rngs), {}
    out, made = self.model.apply(variables, batch, positions, rngs=rngs, mutable=[ROUTING])
    return out, made[ROUTING]

  def _with_routers(self, total, sums, routing, scales):
    """Adds the losses of the routers to the loss that is minimised, and their sums."""
    if self.model.config.experts is None:
      return total, sums
    added, router_sums = router_loss(self.model.config.experts, routing, scales.routers)
    return total + added, sums._replace(**router_sums._asdict())

  def _label_loss(
    self, params: Any, batch: Batch, scales: LossScales, rng: jax.Array | None
  ) -> tuple[jax.Array, Sums]:
    first = jnp.zeros((batch["pair_labels"].shape[0], 1), jnp.int32)
    out, routing = self._apply(params, batch, first, rng)
    labels = jnp.maximum(batch["pair_labels"], 0)
    smoothing = self.options.label_smoothing
    loss = pair_classification_loss(out.pooled_logits, labels, self._pair_weights(batch), smoothing)
    assert scales.pairs is not None
    sums = Sums(
      loss=loss.loss_sum,
      z_loss=loss.z_loss_sum,
      correct=loss.correct_sum,
      weight=loss.weight_sum,
      tokens=_tokens_read(batch),
    )
    return self._with_routers(scales.pairs * loss.loss_sum, sums, routing, scales)

  def _token_loss(self, out: Outputs, targets: _Targets) -> LossSums:
    averaging = targets.averaging_weights
    return linear_cross_entropy(
      out.hidden,
      out.kernel,
      targets.tokens,
      targets.weights if averaging is None else averaging,
      bias=out.bias,
      z_loss=self.options.z_loss,
      label_smoothing=self.options.label_smoothing,
      logit_soft_cap=self.model.config.logit_soft_cap,
      return_per_token=bool(self.num_components) or averaging is not None or self.exact_match,
    )

  def _sums(self, batch: Batch, targets: _Targets, loss: LossSums, pairs: LossSums | None) -> Sums:
    sums = Sums(
      loss=loss.loss_sum - loss.z_loss_sum,
      z_loss=loss.z_loss_sum,
      correct=loss.correct_sum,
      weight=loss.weight_sum,
      tokens=_tokens_read(batch),
    )
    if self.token_bytes is not None:
      sums = sums._replace(bytes=self._bytes(targets).sum())
    if self.num_components:
      sums = self._with_components(sums, targets, loss)
    if self.exact_match:
      assert loss.per_token is not None
      segments = batch.get(f"{self.side}_segment_ids")
      right, count = whole_sequences(loss.per_token.correct, targets.weights, segments)
      sums = sums._replace(sequences_right=right, sequences=count)
    if pairs is not None:
      sums = sums._replace(
        pair_loss=pairs.loss_sum, pair_correct=pairs.correct_sum, pair_weight=pairs.weight_sum
      )
    return sums

  def _with_components(self, sums: Sums, targets: _Targets, loss: LossSums) -> Sums:
    """Adds the sums over each part of a mixture."""
    assert loss.per_token is not None
    ids = jax.nn.one_hot(targets.components, self.num_components)
    values = {"loss": loss.per_token.loss * targets.weights, "weight": targets.weights}
    if self.detailed:
      values["correct"] = loss.per_token.correct * targets.weights
      if self.token_bytes is not None:
        values["bytes"] = self._bytes(targets)
    return sums._replace(
      **{f"component_{name}": jnp.einsum("blc,bl->c", ids, x) for name, x in values.items()}
    )

  def _bytes(self, targets: _Targets) -> jax.Array:
    """Returns the bytes of text of each target [B, L], weighted as its loss is.

    Masked diffusion weights hidden tokens by 1/t: like their losses, their bytes then sum to those
    of the whole text on average.
    """
    lengths = jnp.take(jnp.asarray(self.token_bytes, jnp.float32), targets.tokens)
    return lengths * targets.weights

  def _pair_weights(self, batch):
    """Returns [B], 1 for rows that have a label. Label -1 means none; padding has no loss."""
    used = batch[f"{self.side}_loss_weights"].sum(-1) > 0
    return (used & (batch["pair_labels"] >= 0)).astype(jnp.float32)

  def _weights(self, batch):
    """Returns [B, L], the weights of the loss that is minimised."""
    weights = batch[f"{self.side}_loss_weights"].astype(jnp.float32)
    if self.options.normalizing_factor != "AVERAGE_PER_SEQUENCE":
      return weights
    return averaging_weights(weights, batch.get(f"{self.side}_segment_ids"))

  def _targets(self, batch: Batch) -> _Targets:
    averaged = self.options.normalizing_factor == "AVERAGE_PER_SEQUENCE"
    targets = _Targets(
      tokens=batch[f"{self.side}_target_tokens"],
      weights=batch[f"{self.side}_loss_weights"].astype(jnp.float32),
      averaging_weights=self._weights(batch) if averaged else None,
      components=batch[f"{self.side}_component_ids"] if self.num_components else None,
    )
    if self.max_targets is None:
      return targets
    positions, targets = gather_targets(targets, targets.weights, self.max_targets)
    return targets._replace(positions=positions)


def _tokens_read(batch: Batch) -> jax.Array:
  """Returns how many tokens are not padding: by segments if there are any, else by ids."""
  read = [
    batch.get(f"{side}_segment_ids", batch[f"{side}_{kind}_tokens"])
    for side, kind in (("encoder", "input"), ("decoder", "target"))
    if f"{side}_{kind}_tokens" in batch
  ]
  return sum(((x > 0).sum() for x in read), start=jnp.zeros((), jnp.float32))


def whole_sequences(
  correct: jax.Array, weights: jax.Array, segment_ids: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
  """Returns how many sequences are predicted right as a whole, and how many there are.

  A target that is the likeliest after the true ones before it is what greedy decoding writes there,
  so a sequence of which all targets are is exactly what greedy decoding writes.

  correct      [[1, 1, 0, 1, 0]]
  weights      [[1, 1, 1, 1, 0]]
  segment_ids  [[1, 1, 2, 2, 0]]
  returns      1, 2

  Args:
    correct: [B, L], above 0 where the target is the likeliest token.
    weights: [B, L], above 0 where there is a target.
    segment_ids: int [B, L], from 1, 0 being padding; None where a row is one sequence.
  """
  targets = weights > 0
  wrong = targets & (correct == 0)
  if segment_ids is None:
    counted, failed = targets.any(-1), wrong.any(-1)
  else:
    count = weights.shape[-1] + 1
    per_segment = jax.vmap(lambda x, ids: jax.ops.segment_sum(x.astype(jnp.int32), ids, count))
    counted, failed = per_segment(targets, segment_ids) > 0, per_segment(wrong, segment_ids) > 0
  return (counted & ~failed).astype(jnp.float32).sum(), counted.astype(jnp.float32).sum()


def averaging_weights(weights: jax.Array, segment_ids: jax.Array | None) -> jax.Array:
  """Returns weights that sum to 1 over each sequence with loss, as T5X's losses.py does.

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
