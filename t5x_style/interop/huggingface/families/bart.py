"""BART (model_type bart): both sides have learned positions and a norm after the embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from t5x_style.interop.huggingface.config_json import (
  ACTIVATIONS,
  ConfigJson,
  activation_name,
  head_width,
)
from t5x_style.interop.huggingface.config_keys import (
  NO_PADDING,
  Activation,
  ConfigKeys,
  Count,
  Deviation,
  FullAttentionKeys,
  Rate,
)
from t5x_style.interop.huggingface.tensor_rules import (
  TensorRule,
  dense,
  in_layer,
  logit_factor,
  norm,
)
from t5x_style.models import TransformerConfig

ARCHITECTURE = "encoder_decoder"
CLASSES = ("BartForConditionalGeneration",)
BASE_PREFIX, HEAD_PREFIXES = "model.", ("lm_head.", "final_logits_bias")
EMBEDDING, HEAD, BIAS = "model.shared.weight", "lm_head.weight", "final_logits_bias"
BUFFERS = ()

_OFFSET = 2  # unused rows before the first position


class BartKeys(FullAttentionKeys):
  OTHER_NAMES: ClassVar[Mapping[str, str]] = {
    "hidden_size": "d_model",
    "num_attention_heads": "encoder_attention_heads",
    "num_hidden_layers": "encoder_layers",
  }

  vocab_size: Count = 50265
  max_position_embeddings: Count = 1024
  d_model: Count = 1024
  encoder_layers: Count = 12
  encoder_ffn_dim: Count = 4096
  encoder_attention_heads: Count = 16
  decoder_layers: Count = 12
  decoder_ffn_dim: Count = 4096
  decoder_attention_heads: Count = 16
  activation_function: Activation = "gelu"
  dropout: Rate = 0.1
  attention_dropout: Rate = 0.0
  init_std: Deviation = 0.02
  scale_embedding: Literal[False] = False
  pad_token_id: int | None = 1
  is_encoder_decoder: Literal[True] = True
  tie_word_embeddings: bool = True
  # Keys of transformers 3: later versions ignore them and compute another model.
  normalize_before: Literal[False] = False
  normalize_embedding: Literal[True] = True
  add_final_layer_norm: Literal[False] = False
  static_position_embeddings: Literal[False] = False


KEYS: dict[str, type[ConfigKeys]] = {"bart": BartKeys}


def from_config_json(config_json: ConfigJson, tensors: Mapping[str, Any]) -> dict[str, Any]:
  keys = config_json.parse(BartKeys)
  heads, mlp = keys.encoder_attention_heads, keys.encoder_ffn_dim
  for name, of_decoder, of_encoder in (
    ("decoder_attention_heads", keys.decoder_attention_heads, heads),
    ("decoder_ffn_dim", keys.decoder_ffn_dim, mlp),
  ):
    if of_decoder != of_encoder:
      raise config_json.refusal(name, of_decoder, [of_encoder])
  # Files always have this bias; it is zeros unless it was trained.
  bias = BIAS in tensors and (tensors[BIAS] is None or bool(tensors[BIAS].map().any()))
  return {
    "vocab_size": keys.vocab_size,
    "emb_dim": keys.d_model,
    "num_heads": heads,
    "head_dim": head_width(config_json, keys.d_model, heads),
    "mlp_dim": mlp,
    "num_encoder_layers": keys.encoder_layers,
    "num_decoder_layers": keys.decoder_layers,
    "mlp_activations": (ACTIVATIONS[keys.activation_function],),
    "norm": "layer",
    "norm_position": "post",
    "norm_epsilon": 1e-5,
    "use_bias": True,
    "dropout_rate": keys.dropout,
    "dropout_places": "bert",
    "attention_dropout_rate": keys.attention_dropout,
    "positions": "learned",
    "max_length": keys.max_position_embeddings,
    "position_offset": _OFFSET,
    "padding_id": NO_PADDING if keys.pad_token_id is None else keys.pad_token_id,
    "embedding_norm": True,
    "tie_embeddings": keys.tie_word_embeddings,
    "scale_logits": False,
    "head_bias": bias,
    "kernel_init_std": keys.init_std,
    "embedding_init_std": keys.init_std,
  }


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
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
    "activation_function": activation_name(config.mlp_activations[0]),
    "dropout": config.dropout_rate,
    "attention_dropout": config.attention_dropout_rate,
    "max_position_embeddings": config.max_length,
    "scale_embedding": False,
    "pad_token_id": None if config.padding_id == NO_PADDING else config.padding_id,
    "tie_word_embeddings": config.tie_embeddings,
    "is_encoder_decoder": True,
  }


def rules(config: TransformerConfig) -> Iterator[TensorRule]:
  yield TensorRule("token_embed/embedding", EMBEDDING, "V E -> V E")
  for stack, prefix, layers in (
    ("encoder", "", config.num_encoder_layers),
    ("decoder", "decoder_", config.num_decoder_layers),
  ):
    base = f"model.{stack}"
    yield TensorRule(
      f"{prefix}position_embed/embedding", f"{base}.embed_positions.weight", "M E -> M E"
    )
    yield from norm(f"{prefix}embed_norm", f"{base}.layernorm_embedding", True)
    for i in range(layers):
      # The norm of the decoder's last layer is the last one before the head.
      factor = logit_factor(config) if stack == "decoder" and i == layers - 1 else 1.0
      yield from in_layer(stack, i, f"{base}.layers.{i}.", _layer(stack, factor))
  if config.head_bias:
    yield TensorRule("head/bias", BIAS, "P V -> V")
  if not config.tie_embeddings:
    yield TensorRule("head/kernel", HEAD, "V D -> D V")


def aliases(config: TransformerConfig) -> dict[str, str]:
  tied = {f"model.{side}.embed_tokens.weight": EMBEDDING for side in ("encoder", "decoder")}
  return tied | ({HEAD: EMBEDDING} if config.tie_embeddings else {})


def copies(config: TransformerConfig) -> dict[str, str]:
  """Returns the tables of both sides, which repeat the shared one if the head is not tied."""
  tables = [f"model.{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
  return {} if config.tie_embeddings else dict.fromkeys(tables, EMBEDDING)


def zeros(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
  """Returns the bias of the head, a tensor of zeros, if `config` has no such bias."""
  return {} if config.head_bias else {BIAS: (1, config.vocab_size)}


def _layer(stack: str, factor: float) -> Iterator[TensorRule]:
  parts = [("self_attention", "self_attn")]
  if stack == "decoder":
    parts.append(("cross_attention", "encoder_attn"))
  for module, tensor in parts:
    for name in ("query", "key", "value"):
      yield from dense(f"{module}/{name}", f"{tensor}.{name[0]}_proj", "(N H) D -> D N H", True)
    yield from dense(f"{module}/out", f"{tensor}.out_proj", "D (N H) -> N H D", True)
    yield from norm(f"{module}_norm", f"{tensor}_layer_norm", True)
  yield from dense("mlp/wi", "fc1", "F D -> D F", True)
  yield from dense("mlp/wo", "fc2", "D F -> F D", True)
  yield from norm("mlp_norm", "final_layer_norm", True, factor=factor)
