"""Llama (model_type llama) and Qwen3 (model_type qwen3), which normalises queries and keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.interop.rules import Rule, dense, in_layer, logit_factor, norm
from t5x_style.interop.settings import Settings, cycle, their_activation
from t5x_style.models import RotaryScaling, TransformerConfig

ARCHITECTURES = ("LlamaForCausalLM", "Qwen3ForCausalLM", "LlamaModel", "Qwen3Model")
BASE = "model."
HEADS = ("lm_head.",)
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_FULL, _LOCAL = "full_attention", "sliding_attention"
BUFFERS = (r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",)


def from_settings(settings: Settings, tensors: Mapping[str, Any]) -> dict[str, Any]:
  width, heads = settings.get("hidden_size"), settings.get("num_attention_heads")
  biases = settings.get("attention_bias", False)
  if settings.get("mlp_bias", False) != biases:
    raise settings.refusal("attention_bias", biases, ["the same as mlp_bias"])
  return {
    "vocab_size": settings.get("vocab_size"),
    "emb_dim": width,
    "num_heads": heads,
    "num_kv_heads": settings.get("num_key_value_heads", heads),
    "head_dim": settings.get("head_dim", width // heads),
    "mlp_dim": settings.get("intermediate_size"),
    "num_decoder_layers": settings.get("num_hidden_layers"),
    "mlp_activations": (settings.activation("hidden_act", "silu"), "linear"),
    "norm": "rms",
    "norm_epsilon": settings.get("rms_norm_eps", 1e-6),
    "use_bias": biases,
    "qk_norm": settings.get("model_type") == "qwen3",
    "positions": "rotary",
    "rotary_base": settings.rotary_base(),
    "rotary_scaling": settings.rotary_scaling("llama3"),
    "attention_windows": _windows(settings),
    "tie_embeddings": settings.only("tie_word_embeddings", False, True),
    "scale_logits": False,
    "kernel_init_std": settings.get("initializer_range", 0.02),
    "embedding_init_std": settings.get("initializer_range", 0.02),
  }


def to_settings(config: TransformerConfig) -> dict[str, Any]:
  name = "Qwen3" if config.qk_norm else "Llama"
  layers, windows = config.num_decoder_layers, config.attention_windows
  kinds = [_LOCAL if windows[i % len(windows)] else _FULL for i in range(layers)]
  settings = {
    "model_type": name.lower(),
    "architectures": [f"{name}ForCausalLM"],
    "vocab_size": config.vocab_size,
    "hidden_size": config.emb_dim,
    "num_attention_heads": config.num_heads,
    "num_key_value_heads": config.kv_heads,
    "head_dim": config.head_dim,
    "intermediate_size": config.mlp_dim,
    "num_hidden_layers": config.num_decoder_layers,
    "hidden_act": their_activation(config.mlp_activations[0]),
    "rms_norm_eps": config.norm_epsilon,
    "attention_bias": config.use_bias,
    # Both spellings: transformers 4 reads the first two, 5 the third.
    "rope_theta": config.rotary_base,
    "rope_scaling": _scaling(config.rotary_scaling),
    "rope_parameters": {
      "rope_theta": config.rotary_base,
      **(_scaling(config.rotary_scaling) or {"rope_type": "default"}),
    },
    "tie_word_embeddings": config.tie_embeddings,
  }
  if not config.qk_norm:
    return settings | {"mlp_bias": config.use_bias}
  window = next(filter(None, windows), None)
  return settings | {
    "layer_types": kinds,
    "use_sliding_window": window is not None,
    "sliding_window": None if window is None else window + 1,
  }


def rules(config: TransformerConfig) -> Iterator[Rule]:
  yield Rule("token_embed/embedding", EMBEDDING, "V D -> V D")
  for i in range(config.num_decoder_layers):
    yield from in_layer("decoder", i, f"model.layers.{i}.", _layer(config))
  yield from norm("decoder/final_norm", "model.norm", False, factor=logit_factor(config))
  if not config.tie_embeddings:
    yield Rule("head/kernel", HEAD, "V D -> D V")


def aliases(config: TransformerConfig) -> dict[str, str]:
  return {HEAD: EMBEDDING} if config.tie_embeddings else {}


def _windows(settings: Settings) -> tuple[int | None, ...]:
  """How far back each layer sees; theirs counts the token itself."""
  layers = settings.get("num_hidden_layers")
  sliding = settings.get("use_sliding_window", False)
  first = settings.get("max_window_layers", layers)
  kinds = settings.get(
    "layer_types", [_LOCAL if sliding and i >= first else _FULL for i in range(layers)]
  )
  for kind in kinds:
    if kind not in (_FULL, _LOCAL):
      raise settings.refusal("layer_types", kind, [_FULL, _LOCAL])
  if _LOCAL not in kinds:
    return (None,)
  window = settings.get("sliding_window") - 1
  return cycle([window if kind == _LOCAL else None for kind in kinds])


def _scaling(scaling: RotaryScaling | None) -> dict[str, Any] | None:
  if scaling is None:
    return None
  return {
    "rope_type": "llama3",
    "factor": scaling.factor,
    "low_freq_factor": scaling.low,
    "high_freq_factor": scaling.high,
    "original_max_position_embeddings": scaling.original_length,
  }


def _layer(config: TransformerConfig) -> Iterator[Rule]:
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
  yield from dense("mlp/wi_0", "mlp.gate_proj", "F D -> D F", bias)
  yield from dense("mlp/wi_1", "mlp.up_proj", "F D -> D F", bias)
  yield from dense("mlp/wo", "mlp.down_proj", "D F -> F D", bias)
