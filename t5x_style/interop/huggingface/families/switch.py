"""Switch Transformers (model_type switch_transformers): T5 1.0 whose layers may have experts.

In transformers an expert computes only the first expert_capacity tokens of a row, also in
inference: row_capacity of this package's experts. A model without it is exported with the largest
number that transformers takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from t5x_style.errors import UserError
from t5x_style.interop.huggingface.config_json import ACTIVATIONS, ConfigJson, activation_name
from t5x_style.interop.huggingface.config_keys import Activation, ConfigKeys, Count, absent
from t5x_style.interop.huggingface.families import t5
from t5x_style.interop.huggingface.tensor_rules import TensorRule, dense, experts
from t5x_style.models import Experts, TransformerConfig

ARCHITECTURE = "encoder_decoder"
CLASSES = ("SwitchTransformersForConditionalGeneration",)
BASE_PREFIX, HEAD_PREFIXES, BUFFERS = t5.BASE_PREFIX, t5.HEAD_PREFIXES, t5.BUFFERS
EMBEDDING, HEAD = t5.EMBEDDING, t5.HEAD

_NO_LIMIT = 2**31 - 1  # tokens; no row has as many
_Weight = Annotated[float, Field(ge=0)]


class SwitchKeys(t5.SharedKeys):
  d_model: Count = 768
  num_layers: Count = 12
  num_decoder_layers: Count | None = 12
  num_sparse_encoder_layers: int = 3
  num_sparse_decoder_layers: int = 3
  encoder_sparse_step: int = absent()
  decoder_sparse_step: int = absent()
  num_heads: Count = 12
  num_experts: Count = 8
  expert_capacity: Count = 64
  router_bias: Literal[False] = False
  router_jitter_noise: Annotated[float, Field(ge=0, lt=1)] = 0.01
  router_dtype: Literal["float32"] = "float32"
  router_z_loss_coef: _Weight = 0.001
  router_aux_loss_coef: _Weight = 0.001
  dense_act_fn: Activation = "relu"


KEYS: dict[str, type[ConfigKeys]] = {"switch_transformers": SwitchKeys}


def from_config_json(config_json: ConfigJson, tensors: Mapping[str, Any]) -> dict[str, Any]:
  keys = config_json.parse(SwitchKeys)
  fields = t5.fields_of(config_json, keys, tensors, scaled=keys.tie_word_embeddings)
  limited = keys.expert_capacity < _NO_LIMIT
  return fields | {
    "mlp_activations": (ACTIVATIONS[keys.dense_act_fn],),
    "experts": Experts(
      num_experts=keys.num_experts,
      every=_every(config_json, keys, fields["num_encoder_layers"], fields["num_decoder_layers"]),
      row_capacity=keys.expert_capacity if limited else None,
      dropout_rate=keys.dropout_rate,
      balance_loss=keys.router_aux_loss_coef,
      router_z_loss=keys.router_z_loss_coef,
      router_jitter=keys.router_jitter_noise,
    ),
  }


def _every(config_json: ConfigJson, keys: SwitchKeys, encoder: int, decoder: int) -> int:
  """Returns n, where every n-th layer of both stacks has experts.

  Raises:
    UserError: transformers places the experts otherwise.
  """
  stacks = {
    "encoder": (encoder, keys.num_sparse_encoder_layers, keys.encoder_sparse_step),
    "decoder": (decoder, keys.num_sparse_decoder_layers, keys.decoder_sparse_step),
  }
  found = {stack: _places(*counts) for stack, counts in stacks.items()}
  for every in range(1, min(encoder, decoder) + 1):
    wanted = [list(range(every - 1, layers, every)) for layers in (encoder, decoder)]
    if [*found.values()] == wanted:
      return every
  shown = " and ".join(f"{layers} of the {stack}" for stack, layers in found.items())
  raise UserError(
    f"{config_json.source}: num_sparse_encoder_layers = {keys.num_sparse_encoder_layers} and "
    f"num_sparse_decoder_layers = {keys.num_sparse_decoder_layers} give experts to the layers "
    f"{shown}, counted from 0; in this package's models the same every n-th layer of both has them."
  )


def _places(layers: int, sparse: int, step: int | None) -> list[int]:
  """Returns which layers have experts, as transformers' SwitchTransformersStack computes it.

  Args:
    step: as the file says it; None: it follows from the number of such layers.
  """
  if step is None:
    step = layers // sparse if sparse > 0 else layers
  return [i for i in range(layers) if step > 0 and (i % step == 1 or step == 1)]


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
  settings = config.experts
  if settings is None:
    raise UserError("it has no experts")
  if len(config.mlp_activations) > 1:
    raise UserError(f"mlp_activations = {config.mlp_activations!r}, and Switch has no gates")
  if settings.row_capacity is not None and settings.row_capacity >= _NO_LIMIT:
    raise UserError(f"row_capacity = {settings.row_capacity} is too large")
  return t5.shared_config_json(config) | {
    "model_type": "switch_transformers",
    "architectures": [*CLASSES],
    "num_sparse_encoder_layers": config.num_encoder_layers // settings.every,
    "num_sparse_decoder_layers": config.num_decoder_layers // settings.every,
    "num_experts": settings.num_experts,
    "expert_capacity": settings.row_capacity or _NO_LIMIT,
    "router_jitter_noise": settings.router_jitter,
    "router_z_loss_coef": settings.router_z_loss,
    "router_aux_loss_coef": settings.balance_loss,
    "dense_act_fn": activation_name(config.mlp_activations[0]),
  }


def rules(config: TransformerConfig) -> Iterator[TensorRule]:
  def mlp(layer: int, prefix: str) -> Iterator[TensorRule]:
    if config.has_experts(layer):
      yield from dense("mlp/router", f"{prefix}mlp.router.classifier", "G D -> D G", False)
      names = {kernel: f"{prefix}mlp.experts.expert_{{}}.{kernel}" for kernel in ("wi", "wo")}
      yield from experts(config, names)
      return
    yield from dense("mlp/wi", f"{prefix}mlp.wi", "F D -> D F", False)
    yield from dense("mlp/wo", f"{prefix}mlp.wo", "D F -> F D", False)

  return t5.rules_with(config, mlp)


def aliases(config: TransformerConfig) -> dict[str, str]:
  return t5.aliases(config) if config.tie_embeddings else {}


def copies(config: TransformerConfig) -> dict[str, str]:
  """Returns the tables of both stacks, which transformers unties together with the head."""
  return {} if config.tie_embeddings else t5.aliases(config)
