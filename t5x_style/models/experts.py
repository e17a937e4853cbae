"""The settings of feed-forward layers that are mixtures of experts."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from t5x_style.errors import UserError
from t5x_style.setting_types import FractionBelowOne, NonNegativeFloat, PositiveFloat, PositiveInt

# {field of TransformerConfig: why it cannot be set}
_NOT_WITH_EXPERTS = {
  "fp8": "the products of experts are computed in dtype",
  "use_bias": "experts have no biases",
  "share_layers": "layers that are shared are dense",
}

# Metadata of fields that do not change the function a trained model computes.
_TRAINING = {"role": "training"}


@dataclasses.dataclass(frozen=True)
class Experts:
  """Mixtures of experts: a router sends each token to a few of a layer's feed-forward networks.

  Attributes:
    num_experts: E, the networks of a layer.
    experts_per_token: K, how many compute a token; their sum is weighted by the probabilities that
      the router gives them. 1 is Switch (Fedus et al. 2021), 2 is GShard (Lepikhin et al. 2020) and
      Mixtral (Jiang et al. 2024).
    every: each n-th layer of a stack has experts, the last of every n; the others are dense.
    mlp_dim: the width of an expert; None: TransformerConfig.mlp_dim, which dense layers have.
    normalize: whether the K probabilities are divided by their sum.
    capacity_factor: in training an expert computes at most this many times its fair share of a
      group's tokens, K / E of them. The choices that come too late, the first choices of all tokens
      before the second ones, are dropped: the token gets nothing from that expert. None drops
      nothing. Evaluation and inference do not drop for it: a row does not depend on other rows.
    row_capacity: an expert computes at most this many choices of a row, the first ones, also
      outside of training; None: all. transformers' Switch computes so; packed texts share the row.
      Where a text is decoded token by token nothing is dropped, as in transformers.
    dropout_rate: in training, of the hidden units inside experts ("expert dropout", Switch, section
      2.4), wherever the model's other layers have dropout. Each unit is drawn on its own for each
      choice; the mesh, the capacity and the other tokens have no influence on it.
    rows_per_group: rows of a batch that share the capacity. With many experts and short rows, more
      rows lose fewer tokens.
    balance_loss: weight of the loss that makes the experts' shares of the tokens equal.
    balance_over: "layer" balances each layer on its own and adds the losses (Switch, equation 4);
      "model" balances the sums over all layers of a stack, as transformers does for Mixtral.
    router_z_loss: weight of the mean of log(Z)^2 of the router's logits (Zoph et al. 2022, ST-MoE,
      equation 5), added over the layers.
    router_jitter: in training, what the router reads is multiplied by numbers between 1 - this and
      1 + this (Switch, section 2.4).
  """

  num_experts: PositiveInt
  experts_per_token: PositiveInt = 1
  every: PositiveInt = 1
  mlp_dim: PositiveInt | None = None
  normalize: bool = False
  row_capacity: PositiveInt | None = None
  dropout_rate: FractionBelowOne = dataclasses.field(default=0.0, metadata=_TRAINING)
  capacity_factor: PositiveFloat | None = dataclasses.field(default=None, metadata=_TRAINING)
  rows_per_group: PositiveInt = dataclasses.field(default=1, metadata=_TRAINING)
  balance_loss: NonNegativeFloat = dataclasses.field(default=0.01, metadata=_TRAINING)
  balance_over: Literal["layer", "model"] = dataclasses.field(default="layer", metadata=_TRAINING)
  router_z_loss: NonNegativeFloat = dataclasses.field(default=0.0, metadata=_TRAINING)
  router_jitter: FractionBelowOne = dataclasses.field(default=0.0, metadata=_TRAINING)

  def __post_init__(self):
    if self.experts_per_token > self.num_experts:
      raise UserError(
        f"Experts.experts_per_token = {self.experts_per_token} is more than Experts.num_experts = "
        f"{self.num_experts}."
      )
    if self.normalize and self.experts_per_token == 1:
      raise UserError(
        "Experts.normalize = True with experts_per_token = 1 makes every weight 1, so that the "
        "router would get no gradient; set normalize = False."
      )
    if not 0 <= self.dropout_rate < 1:
      raise UserError(
        f"Experts.dropout_rate = {self.dropout_rate} must lie in [0, 1); set EXPERT_DROPOUT_RATE."
      )
    if self.balance_over not in ("layer", "model"):
      raise UserError(
        f"Experts.balance_over = {self.balance_over!r} is not one of 'layer', 'model'."
      )
    if self.rows_per_group > 1 and self.capacity_factor is None:
      raise UserError(
        f"Experts.rows_per_group = {self.rows_per_group} shares a capacity, and capacity_factor = "
        "None has none; set capacity_factor, or rows_per_group = 1."
      )

  def check(self, model: Mapping[str, Any]) -> None:
    """Raises UserError if a model cannot have such experts.

    Args:
      model: the fields of its TransformerConfig.
    """
    for name, reason in _NOT_WITH_EXPERTS.items():
      if model[name]:
        raise UserError(
          f"TransformerConfig.{name} = True with experts is not supported: {reason}. Set {name} = "
          "False, or experts = None."
        )
    for layers in filter(None, (model["num_encoder_layers"], model["num_decoder_layers"])):
      if layers < self.every:
        raise UserError(
          f"Experts.every = {self.every}: a stack of {layers} layers would have no layer with "
          f"experts; set every to {layers} or less."
        )

  def as_computed(self, mlp_dim: int) -> dict[str, Any]:
    """Returns the settings that change what a trained model computes.

    Args:
      mlp_dim: of the TransformerConfig.
    """
    values = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.metadata != _TRAINING
    }
    return values | {"mlp_dim": self.mlp_dim or mlp_dim}
