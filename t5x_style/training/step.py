"""One pure training step, and the loss it differentiates."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5x_style.errors import UserError
from t5x_style.losses import linear_cross_entropy, pair_classification_loss, select_chosen
from t5x_style.models import Transformer
from t5x_style.training.schedules import Schedule
from t5x_style.training.state import TrainState

Batch = dict[str, jax.Array]
Sums = dict[str, jax.Array]

NORMALIZERS = ("NUM_REAL_TARGET_TOKENS", "NUM_TOTAL_TARGET_TOKENS", "AVERAGE_PER_SEQUENCE")


@dataclasses.dataclass(frozen=True)
class LossOptions:
  """How target tokens turn into the number that is minimised.

  Attributes:
    z_loss: weight of log(Z)^2, which keeps the logits near normalised (T5X: 1e-4).
    label_smoothing: probability spread over the vocabulary.
    normalizing_factor: what the summed loss is divided by, with T5X's names: the number of target
      tokens that carry loss (None or NUM_REAL_TARGET_TOKENS), of all target positions
      (NUM_TOTAL_TARGET_TOKENS), of sequences after each is averaged (AVERAGE_PER_SEQUENCE), or a
      constant.
  """

  z_loss: float = 0.0
  label_smoothing: float = 0.0
  normalizing_factor: float | str | None = None

  def __post_init__(self):
    factor = self.normalizing_factor
    if isinstance(factor, str) and factor not in NORMALIZERS:
      raise UserError(
        f"LOSS_NORMALIZING_FACTOR = {factor!r} must be None, a number, or one of "
        f"{', '.join(map(repr, NORMALIZERS))}."
      )
    if isinstance(factor, (int, float)) and factor <= 0:
      raise UserError(f"LOSS_NORMALIZING_FACTOR = {factor} must be positive.")
    if not 0 <= self.label_smoothing < 1:
      raise UserError(f"LABEL_SMOOTHING = {self.label_smoothing} must lie in [0, 1).")
    if self.z_loss < 0:
      raise UserError(f"Z_LOSS = {self.z_loss} must not be negative.")


@dataclasses.dataclass(frozen=True)
class TrainingLoss:
  """The loss of a model on the features of a batch; the same for every objective.

  Reports sums over the batch: "loss" and "z_loss" in nats, "correct" and "weight" in target tokens,
  "tokens" the model read that are not padding, "bytes" of target text.

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
    weights = batch[f"{self.side}_loss_weights"].astype(jnp.float32)
    if factor in (None, "NUM_REAL_TARGET_TOKENS"):
      count = weights.sum()
    elif factor == "NUM_TOTAL_TARGET_TOKENS":
      count = jnp.float32(weights.size)
    elif factor == "AVERAGE_PER_SEQUENCE":
      count = (weights.sum(-1) > 0).sum().astype(jnp.float32)
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
    if self.options.normalizing_factor == "AVERAGE_PER_SEQUENCE":
      weights = weights / jnp.maximum(weights.sum(-1, keepdims=True), 1e-9)
    loss = linear_cross_entropy(
      out.hidden,
      out.kernel,
      targets,
      weights,
      bias=out.bias,
      z_loss=self.options.z_loss,
      label_smoothing=self.options.label_smoothing,
      logit_soft_cap=self.model.config.logit_soft_cap,
      return_per_token=bool(self.num_components),
    )
    total = scales["tokens"] * loss.loss_sum
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
      ids = jax.nn.one_hot(features["components"], self.num_components)
      sums["component_loss"] = jnp.einsum("blc,bl->c", ids, loss.per_token_loss * weights)
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

  def _features(self, batch):
    """Targets and weights [B, L]; or [B, P] and the positions where only P per row carry loss."""
    names = {"targets": "target_tokens", "weights": "loss_weights"}
    if self.num_components:
      names["components"] = "component_ids"
    features = {name: batch[f"{self.side}_{suffix}"] for name, suffix in names.items()}
    features["weights"] = features["weights"].astype(jnp.float32)
    if self.max_targets is not None:
      positions = select_chosen(features["weights"], self.max_targets)
      features = {k: jnp.take_along_axis(x, positions, axis=1) for k, x in features.items()}
      features["positions"] = positions
    return features


def make_train_step(
  loss: TrainingLoss,
  optimizer: optax.GradientTransformation,
  schedule: Schedule,
  num_microbatches: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Sums]]:
  """The pure function (state, batch) -> (state, metrics), to be jitted with the state donated."""

  def gradients(params, batch, rng):
    scales = loss.scales(batch)
    differentiate = jax.grad(loss, has_aux=True)
    if num_microbatches == 1:
      return differentiate(params, batch, scales, rng)

    def one(total, numbered):
      number, part = numbered
      new = differentiate(params, part, scales, jax.random.fold_in(rng, number))
      return jax.tree.map(jnp.add, total, new), None

    # Rows are dealt out like cards, so that every device keeps the rows it already holds.
    parts = jax.tree.map(
      lambda x: x.reshape(-1, num_microbatches, *x.shape[1:]).swapaxes(0, 1), batch
    )
    first = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(differentiate, params, first, scales, rng)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(one, zeros, (jnp.arange(num_microbatches), parts))[0]

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
    rng = jax.random.fold_in(state.rng, state.step)
    grads, sums = gradients(state.params, batch, rng)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    metrics = sums | {
      "grad_norm": optax.global_norm(grads),
      "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
    }
    state = state.replace(
      step=state.step + 1, params=optax.apply_updates(state.params, updates), opt_state=opt_state
    )
    return state, metrics

  return train_step
