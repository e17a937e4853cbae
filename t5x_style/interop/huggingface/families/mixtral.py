"""Mixtral (model_type mixtral): Llama whose feed-forward layers are mixtures of experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from t5x_style.errors import UserError
from t5x_style.interop.huggingface.config_json import ConfigJson
from t5x_style.interop.huggingface.config_keys import (
  ConfigKeys,
  Count,
  DecoderKeys,
  Epsilon,
  Window,
  never,
)
from t5x_style.interop.huggingface.families import llama
from t5x_style.interop.huggingface.tensor_rules import TensorRule, dense, experts
from t5x_style.models import Experts, TransformerConfig

ARCHITECTURE = "decoder_only"
CLASSES = ("MixtralForCausalLM", "MixtralModel")
BASE_PREFIX, HEAD_PREFIXES, BUFFERS = llama.BASE_PREFIX, llama.HEAD_PREFIXES, llama.BUFFERS
EMBEDDING, HEAD = llama.EMBEDDING, llama.HEAD


class MixtralKeys(llama.SharedKeys, DecoderKeys):
  OTHER_NAMES: ClassVar[Mapping[str, str]] = {"num_experts": "num_local_experts"}

  intermediate_size: Count = 14336
  num_key_value_heads: Count | None = 8
  max_position_embeddings: Count = 4096 * 32
  rms_norm_eps: Epsilon = 1e-5
  rope_theta: Annotated[float, Field(gt=0)] = 1_000_000.0
  sliding_window: Window | None = None
  layer_types: None = never("layers that differ are not supported")
  num_experts_per_tok: Annotated[int, Field(ge=2)] = 2  # The weight of a single one is always 1.
  num_local_experts: Count = 8
  router_aux_loss_coef: Annotated[float, Field(ge=0)] = 0.001


KEYS: dict[str, type[ConfigKeys]] = {"mixtral": MixtralKeys}


def from_config_json(config_json: ConfigJson, tensors: Mapping[str, Any]) -> dict[str, Any]:
  keys = config_json.parse(MixtralKeys)
  if keys.attention_bias:
    raise config_json.refusal("attention_bias", True, [False])
  window = keys.sliding_window  # transformers counts the token itself too.
  return llama.fields_of(config_json, keys) | {
    "attention_windows": (window and window - 1,),
    "experts": Experts(
      num_experts=keys.num_local_experts,
      experts_per_token=keys.num_experts_per_tok,
      normalize=True,
      balance_loss=keys.router_aux_loss_coef,
      balance_over="model",
    ),
  }


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
  if config.experts is None:
    raise UserError("it has no experts")
  window = config.attention_windows[0]
  return llama.shared_config_json(config) | {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "intermediate_size": config.experts.mlp_dim or config.mlp_dim,
    "sliding_window": window and window + 1,
    "num_experts_per_tok": config.experts.experts_per_token,
    "num_local_experts": config.experts.num_experts,
    "router_aux_loss_coef": config.experts.balance_loss,
  }


def rules(config: TransformerConfig) -> Iterator[TensorRule]:
  names = {"wi_0": "w1", "wi_1": "w3", "wo": "w2"}

  def mlp(layer: int) -> Iterator[TensorRule]:
    yield from dense("mlp/router", "block_sparse_moe.gate", "G D -> D G", False)
    tensors = {kernel: f"block_sparse_moe.experts.{{}}.{x}" for kernel, x in names.items()}
    yield from experts(config, tensors)

  return llama.rules_with(config, mlp)


aliases = llama.aliases
