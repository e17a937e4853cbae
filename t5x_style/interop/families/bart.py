"""BART (model_type bart): learned positions and norms of the embeddings on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.interop.rules import Rule, dense, in_layer, norm
from t5x_style.interop.settings import Settings, their_activation
from t5x_style.models import TransformerConfig

ARCHITECTURES = ("BartForConditionalGeneration",)
BASE, HEADS = "model.", ("lm_head.", "final_logits_bias")
EMBEDDING, HEAD, BIAS = "model.shared.weight", "lm_head.weight", "final_logits_bias"
BUFFERS = ()

_OFFSET = 2  # rows in front of the positions that no token uses


def from_settings(settings: Settings, tensors: Mapping[str, Any]) -> dict[str, Any]:
  width = settings.get("d_model")
  heads, mlp = settings.get("encoder_attention_heads"), settings.get("encoder_ffn_dim")
  settings.only("decoder_attention_heads", heads)
  settings.only("decoder_ffn_dim", mlp)
  settings.only("scale_embedding", False)
  deviation = settings.get("init_std", 0.02)
  # Files always have this bias, of zeros where nothing was ever put into it.
  bias = BIAS in tensors and (tensors[BIAS] is None or bool(tensors[BIAS].map().any()))
  return {
    "vocab_size": settings.get("vocab_size"),
    "emb_dim": width,
    "num_heads": heads,
    "head_dim": width // heads,
    "mlp_dim": mlp,
    "num_encoder_layers": settings.get("encoder_layers"),
    "num_decoder_layers": settings.get("decoder_layers"),
    "mlp_activations": (settings.activation("activation_function", "gelu"),),
    "norm": "layer",
    "norm_position": "post",
    "norm_epsilon": 1e-5,
    "use_bias": True,
    "dropout_rate": settings.get("dropout", 0.1),
    "positions": "learned",
    "max_length": settings.get("max_position_embeddings", 1024),
    "position_offset": _OFFSET,
    "padding_id": settings.get("pad_token_id", 1),
    "embedding_norm": True,
    "tie_embeddings": settings.only("tie_word_embeddings", True, False),
    "scale_logits": False,
    "head_bias": bias,
    "kernel_init_std": deviation,
    "embedding_init_std": deviation,
  }


def to_settings(config: TransformerConfig) -> dict[str, Any]:
  return {
    "model_type": "bart",
    "architectures": ["BartForConditionalGeneration"],
    "vocab_size": config.vocab_size,
    "d_model": config.emb_dim,
    "encoder_attention_heads": config.num_heads,
    "decoder_attention_heads": config.num_heads,
    "encoder_ffn_dim": config.mlp_dim,
    "decoder_ffn_dim": config.mlp_dim,
    "encoder_layers": config.num_encoder_layers,
    "decoder_layers": config.num_decoder_layers,
    "activation_function": their_activation(config.mlp_activations[0]),
    "dropout": config.dropout_rate,
    "attention_dropout": 0.0,
    "max_position_embeddings": config.max_length,
    "scale_embedding": False,
    "pad_token_id": config.padding_id,
    "tie_word_embeddings": config.tie_embeddings,
    "is_encoder_decoder": True,
  }


def rules(config: TransformerConfig) -> Iterator[Rule]:
  yield Rule("token_embed/embedding", EMBEDDING, "V E -> V E")
  for stack, ours, layers in (
    ("encoder", "", config.num_encoder_layers),
    ("decoder", "decoder_", config.num_decoder_layers),
  ):
    theirs = f"model.{stack}"
    yield Rule(f"{ours}position_embed/embedding", f"{theirs}.embed_positions.weight", "M E -> M E")
    yield from norm(f"{ours}embed_norm", f"{theirs}.layernorm_embedding", True)
    for i in range(layers):
      yield from in_layer(stack, i, f"{theirs}.layers.{i}.", _layer(stack))
  if config.head_bias:
    yield Rule("head/bias", BIAS, "P V -> V")
  if not config.tie_embeddings:
    yield Rule("head/kernel", HEAD, "V D -> D V")


def aliases(config: TransformerConfig) -> dict[str, str]:
  tied = {f"model.{side}.embed_tokens.weight": EMBEDDING for side in ("encoder", "decoder")}
  return tied | ({HEAD: EMBEDDING} if config.tie_embeddings else {})


def copies(config: TransformerConfig) -> dict[str, str]:
  """{a tensor that only repeats another: the other}, which a model without ties has twice."""
  tables = [f"model.{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
  return {} if config.tie_embeddings else dict.fromkeys(tables, EMBEDDING)


def zeros(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
  """Tensors of theirs that are no parameters here and hold nothing but zeros."""
  return {} if config.head_bias else {BIAS: (1, config.vocab_size)}


def _layer(stack: str) -> Iterator[Rule]:
  parts = [("self_attention", "self_attn")]
  if stack == "decoder":
    parts.append(("cross_attention", "encoder_attn"))
  for ours, theirs in parts:
    for name in ("query", "key", "value"):
      yield from dense(f"{ours}/{name}", f"{theirs}.{name[0]}_proj", "(N H) D -> D N H", True)
    yield from dense(f"{ours}/out", f"{theirs}.out_proj", "D (N H) -> N H D", True)
    yield from norm(f"{ours}_norm", f"{theirs}_layer_norm", True)
  yield from dense("mlp/wi", "fc1", "F D -> D F", True)
  yield from dense("mlp/wo", "fc2", "D F -> F D", True)
  yield from norm("mlp_norm", "final_layer_norm", True)
