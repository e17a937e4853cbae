"""Qwen3 with experts (model_type qwen3_moe); some of its layers may be dense."""

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
  Window,
  never,
)
from t5x_style.interop.huggingface.families import llama
from t5x_style.interop.huggingface.tensor_rules import TensorRule, dense, experts
from t5x_style.models import Experts, TransformerConfig

ARCHITECTURE = "decoder_only"
CLASSES = ("Qwen3MoeForCausalLM", "Qwen3MoeModel")
BASE_PREFIX, HEAD_PREFIXES, BUFFERS = llama.BASE_PREFIX, llama.HEAD_PREFIXES, llama.BUFFERS
EMBEDDING, HEAD = llama.EMBEDDING, llama.HEAD


class Qwen3MoeKeys(llama.SharedKeys, DecoderKeys):
  OTHER_NAMES: ClassVar[Mapping[str, str]] = {"num_local_experts": "num_experts"}

  vocab_size: Count = 151936
  hidden_size: Count = 2048
  intermediate_size: Count = 6144
  num_hidden_layers: Count = 24
  num_key_value_heads: Count | None = 4
  max_position_embeddings: Count = 32768
  use_sliding_window: bool = False
  sliding_window: Window | None = 4096
  layer_types: None = never("layers that differ are not supported")
  decoder_sparse_step: Count = 1
  moe_intermediate_size: Count = 768
  num_experts_per_tok: Count = 8
  num_experts: Count = 128
  norm_topk_prob: bool = False
  router_aux_loss_coef: Annotated[float, Field(ge=0)] = 0.001
  mlp_only_layers: Annotated[list[int], Field(max_length=0)] | None = None


KEYS: dict[str, type[ConfigKeys]] = {"qwen3_moe": Qwen3MoeKeys}


def from_config_json(config_json: ConfigJson, tensors: Mapping[str, Any]) -> dict[str, Any]:
  keys = config_json.parse(Qwen3MoeKeys)
  if keys.attention_bias:
    raise config_json.refusal("attention_bias", True, [False])
  # transformers counts the token itself too.
  window = keys.sliding_window if keys.use_sliding_window else None
  return llama.fields_of(config_json, keys) | {
    "qk_norm": True,
    "attention_windows": (window and window - 1,),
    "experts": Experts(
      num_experts=keys.num_experts,
      experts_per_token=keys.num_experts_per_tok,
      every=keys.decoder_sparse_step,
      mlp_dim=keys.moe_intermediate_size,
      normalize=keys.norm_topk_prob,
      balance_loss=keys.router_aux_loss_coef,
      balance_over="model",
    ),
  }


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
  if config.experts is None:
    raise UserError("it has no experts")
  window = config.attention_windows[0]
  return llama.shared_config_json(config) | {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "use_sliding_window": window is not None,
    "sliding_window": window and window + 1,
    "decoder_sparse_step": config.experts.every,
    "moe_intermediate_size": config.experts.mlp_dim or config.mlp_dim,
    "num_experts_per_tok": config.experts.experts_per_token,
    "num_experts": config.experts.num_experts,
    "norm_topk_prob": config.experts.normalize,
    "router_aux_loss_coef": config.experts.balance_loss,
    "mlp_only_layers": [],
  }


def rules(config: TransformerConfig) -> Iterator[TensorRule]:
  names = {"wi_0": "gate_proj", "wi_1": "up_proj", "wo": "down_proj"}

  def mlp(layer: int) -> Iterator[TensorRule]:
    if not config.has_experts(layer):
      yield from llama.mlp_rules(config)
      return
    yield from dense("mlp/router", "mlp.gate", "G D -> D G", False)
    yield from experts(config, {kernel: f"mlp.experts.{{}}.{x}" for kernel, x in names.items()})

  return llama.rules_with(config, mlp)


aliases = llama.aliases
