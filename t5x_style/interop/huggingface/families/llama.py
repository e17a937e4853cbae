"""Llama (model_type llama) and Qwen3 (model_type qwen3), which normalises queries and keys."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from t5x_style.errors import UserError
from t5x_style.interop.huggingface.config_json import (
  ACTIVATIONS,
  ConfigJson,
  activation_name,
  head_width,
)
from t5x_style.interop.huggingface.config_keys import (
  Activation,
  ConfigKeys,
  Count,
  DecoderKeys,
  Deviation,
  Epsilon,
  FullAttentionKeys,
  Window,
)
from t5x_style.interop.huggingface.rotary_keys import (
  FULL,
  LOCAL,
  RotaryKeys,
  layer_windows,
  rotary_fields,
  scaling_table,
)
from t5x_style.interop.huggingface.tensor_rules import (
  TensorRule,
  dense,
  in_layer,
  logit_factor,
  norm,
)
from t5x_style.models import TransformerConfig

ARCHITECTURE = "decoder_only"
CLASSES = ("LlamaForCausalLM", "Qwen3ForCausalLM", "LlamaModel", "Qwen3Model")
BASE_PREFIX = "model."
HEAD_PREFIXES = ("lm_head.",)
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
BUFFERS = (r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",)


class SharedKeys(RotaryKeys):
  """The keys of decoders of Llama's kind."""

  hidden_size: Count = 4096
  num_hidden_layers: Count = 32
  num_attention_heads: Count = 32
  hidden_act: Activation = "silu"
  initializer_range: Deviation = 0.02
  rms_norm_eps: Epsilon = 1e-6
  attention_bias: bool = False
  tie_word_embeddings: bool = False
  is_encoder_decoder: Literal[False] = False
  vocab_size: Count = 32000
  intermediate_size: Count = 11008
  num_key_value_heads: Count | None = None
  head_dim: Count | None = None
  max_position_embeddings: Count = 2048


class LlamaKeys(SharedKeys, FullAttentionKeys):
  mlp_bias: bool = False


class Qwen3Keys(SharedKeys, DecoderKeys):
  vocab_size: Count = 151936
  intermediate_size: Count = 22016
  num_key_value_heads: Count | None = 32
  head_dim: Count = 128
  max_position_embeddings: Count = 32768
  use_sliding_window: bool = False
  sliding_window: Window | None = 4096
  max_window_layers: int = 28
  layer_types: list[Literal["full_attention", "sliding_attention"]] | None = None


KEYS: dict[str, type[ConfigKeys]] = {"llama": LlamaKeys, "qwen3": Qwen3Keys}


def from_config_json(config_json: ConfigJson, tensors: Mapping[str, Any]) -> dict[str, Any]:
  if config_json.model_type == "qwen3":
    qwen3 = config_json.parse(Qwen3Keys)
    if qwen3.attention_bias:  # Qwen3's feed-forward layers never have biases.
      raise config_json.refusal("attention_bias", True, [False])
    keys: LlamaKeys | Qwen3Keys = qwen3
    special = {"qk_norm": True, "attention_windows": _windows(config_json, qwen3)}
  else:
    llama = keys = config_json.parse(LlamaKeys)
    if llama.mlp_bias != llama.attention_bias:
      raise config_json.refusal("attention_bias", llama.attention_bias, ["the same as mlp_bias"])
    layer_windows(config_json, llama.num_hidden_layers, llama.layer_types or [FULL], None)
    special = {}
  return special | fields_of(config_json, keys)


def fields_of(config_json: ConfigJson, keys: SharedKeys) -> dict[str, Any]:
  """Returns the fields of TransformerConfig that a decoder of Llama's kind has by its keys."""
  heads = keys.num_attention_heads
  base, scaling = rotary_fields(config_json, keys, keys.max_position_embeddings)
  return {
    "vocab_size": keys.vocab_size,
    "emb_dim": keys.hidden_size,
    "num_heads": heads,
    "num_kv_heads": keys.num_key_value_heads or heads,
    "head_dim": keys.head_dim or head_width(config_json, keys.hidden_size, heads),
    "mlp_dim": keys.intermediate_size,
    "num_decoder_layers": keys.num_hidden_layers,
    "mlp_activations": (ACTIVATIONS[keys.hidden_act], "linear"),
    "norm": "rms",
    "norm_epsilon": keys.rms_norm_eps,
    "use_bias": keys.attention_bias,
    "positions": "rotary",
    "rotary_base": base,
    "rotary_scaling": scaling,
    "tie_embeddings": keys.tie_word_embeddings,
    "scale_logits": False,
    "kernel_init_std": keys.initializer_range,
    "embedding_init_std": keys.initializer_range,
  }


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
  name = "Qwen3" if config.qk_norm else "Llama"
  layers, windows = config.num_decoder_layers, config.attention_windows
  kinds = [LOCAL if windows[i % len(windows)] else FULL for i in range(layers)]
  config_json = {
    "model_type": name.lower(),
    "architectures": [f"{name}ForCausalLM"],
    **shared_config_json(config),
  }
  if not config.qk_norm:
    return config_json | {"mlp_bias": config.use_bias}
  window = next(filter(None, windows), None)
  return config_json | {
    "layer_types": kinds,
    "use_sliding_window": window is not None,
    "sliding_window": None if window is None else window + 1,
  }


def shared_config_json(config: TransformerConfig) -> dict[str, Any]:
  """Returns the keys of a config.json that all decoders of Llama's kind have."""
  scaling = config.rotary_scaling
  config_json = {
    "vocab_size": config.vocab_size,
    "hidden_size": config.emb_dim,
    "num_attention_heads": config.num_heads,
    "num_key_value_heads": config.kv_heads,
    "head_dim": config.head_dim,
    "intermediate_size": config.mlp_dim,
    "num_hidden_layers": config.num_decoder_layers,
    "hidden_act": activation_name(config.mlp_activations[0]),
    "rms_norm_eps": config.norm_epsilon,
    "attention_bias": config.use_bias,
    # transformers 4 reads the first two keys, 5 the third.
    "rope_theta": config.rotary_base,
    "rope_scaling": scaling_table(scaling),
    "rope_parameters": {
      "rope_theta": config.rotary_base,
      **(scaling_table(scaling) or {"rope_type": "default"}),
    },
    "tie_word_embeddings": config.tie_embeddings,
  }
  if scaling is not None and scaling.kind == "yarn":
    # Programs for inference take it for the length up to which the model may be used.
    length = round(scaling.factor * scaling.original_length)
    config_json["max_position_embeddings"] = length
  return config_json


def rules(config: TransformerConfig) -> Iterator[TensorRule]:
  return rules_with(config, lambda layer: mlp_rules(config))


def rules_with(
  config: TransformerConfig, mlp: Callable[[int], Iterator[TensorRule]]
) -> Iterator[TensorRule]:
  """Yields the rules of a decoder of Llama's kind.

  Args:
    mlp: layer -> the rules of its feed-forward network.
  """
  yield TensorRule("token_embed/embedding", EMBEDDING, "V D -> V D")
  for i in range(config.num_decoder_layers):
    in_this = itertools.chain(_attention_rules(config), mlp(i))
    yield from in_layer("decoder", i, f"model.layers.{i}.", in_this)
  yield from norm("decoder/final_norm", "model.norm", False, factor=logit_factor(config))
  if not config.tie_embeddings:
    yield TensorRule("head/kernel", HEAD, "V D -> D V")


def aliases(config: TransformerConfig) -> dict[str, str]:
  return {HEAD: EMBEDDING} if config.tie_embeddings else {}


def _windows(config_json: ConfigJson, keys: Qwen3Keys) -> tuple[int | None, ...]:
  """Returns how far back each layer sees; transformers counts the token itself too."""
  window, layers = keys.sliding_window if keys.use_sliding_window else None, keys.num_hidden_layers
  kinds: Sequence[str] | None = keys.layer_types
  if kinds is None:
    first = layers if window is None else keys.max_window_layers
    kinds = [LOCAL if i >= first else FULL for i in range(layers)]
  if LOCAL in kinds and window is None:
    raise UserError(
      f"{config_json.source}: layer_types has {LOCAL!r}, and use_sliding_window = "
      f"{keys.use_sliding_window} with sliding_window = {keys.sliding_window} gives it no window. "
      f"Set both, or make all layers {FULL!r}."
    )
  return layer_windows(config_json, layers, kinds, window and window - 1)


def _attention_rules(config: TransformerConfig) -> Iterator[TensorRule]:
  bias = config.use_bias
  yield from norm("self_attention_norm", "input_layernorm", False)
  yield from dense("self_attention/query", "self_attn.q_proj", "(N H) D -> D N H", bias)
  yield from dense("self_attention/key", "self_attn.k_proj", "(K H) D -> D K H", bias)
  yield from dense("self_attention/value", "self_attn.v_proj", "(K H) D -> D K H", bias)
  yield from dense("self_attention/out", "self_attn.o_proj", "D (N H) -> N H D", bias)
  if config.qk_norm:
    yield from norm("self_attention/query_norm", "self_attn.q_norm", False, "H")
    yield from norm("self_attention/key_norm", "self_attn.k_norm", False, "H")
  yield from norm("mlp_norm", "post_attention_layernorm", False)


def mlp_rules(config: TransformerConfig) -> Iterator[TensorRule]:
  """Yields the rules of a dense feed-forward network."""
  bias = config.use_bias
  yield from dense("mlp/wi_0", "mlp.gate_proj", "F D -> D F", bias)
  yield from dense("mlp/wi_1", "mlp.up_proj", "F D -> D F", bias)
  yield from dense("mlp/wo", "mlp.down_proj", "D F -> F D", bias)
