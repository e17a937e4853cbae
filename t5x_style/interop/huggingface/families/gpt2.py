"""GPT-2 (model_type gpt2): kernels are stored input first; queries, keys and values are fused."""

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
  Activation,
  ConfigKeys,
  Count,
  Deviation,
  Epsilon,
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

ARCHITECTURE = "decoder_only"
CLASSES = ("GPT2LMHeadModel", "GPT2Model")
BASE_PREFIX = "transformer."
HEAD_PREFIXES = ("lm_head.",)
EMBEDDING, HEAD = "transformer.wte.weight", "lm_head.weight"
BUFFERS = (r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",)


class Gpt2Keys(FullAttentionKeys):
  OTHER_NAMES: ClassVar[Mapping[str, str]] = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
  }

  vocab_size: Count = 50257
  n_positions: Count = 1024
  n_embd: Count = 768
  n_layer: Count = 12
  n_head: Count = 12
  n_inner: Count | None = None
  activation_function: Activation = "gelu_new"
  resid_pdrop: Rate = 0.1
  attn_pdrop: Rate = 0.1
  layer_norm_epsilon: Epsilon = 1e-5
  initializer_range: Deviation = 0.02
  scale_attn_weights: bool = True
  scale_attn_by_inverse_layer_idx: Literal[False] = False
  add_cross_attention: Literal[False] = False
  is_encoder_decoder: Literal[False] = False
  tie_word_embeddings: bool = True


KEYS: dict[str, type[ConfigKeys]] = {"gpt2": Gpt2Keys}


def from_config_json(config_json: ConfigJson, tensors: Mapping[str, Any]) -> dict[str, Any]:
  keys = config_json.parse(Gpt2Keys)
  return {
    "vocab_size": keys.vocab_size,
    "emb_dim": keys.n_embd,
    "num_heads": keys.n_head,
    "head_dim": head_width(config_json, keys.n_embd, keys.n_head),
    "mlp_dim": keys.n_inner or 4 * keys.n_embd,
    "num_decoder_layers": keys.n_layer,
    "mlp_activations": (ACTIVATIONS[keys.activation_function],),
    "norm": "layer",
    "norm_epsilon": keys.layer_norm_epsilon,
    "use_bias": True,
    "dropout_rate": keys.resid_pdrop,
    "dropout_places": "bert",
    "attention_dropout_rate": keys.attn_pdrop,
    "scale_attention": keys.scale_attn_weights,
    "positions": "learned",
    "max_length": keys.n_positions,
    "tie_embeddings": keys.tie_word_embeddings,
    "scale_logits": False,
    "kernel_init_std": keys.initializer_range,
    "embedding_init_std": keys.initializer_range,
  }


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
  return {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": config.vocab_size,
    "n_embd": config.emb_dim,
    "n_head": config.num_heads,
    "n_inner": config.mlp_dim,
    "n_layer": config.num_decoder_layers,
    "n_positions": config.max_length,
    "activation_function": activation_name(config.mlp_activations[0]),
    "layer_norm_epsilon": config.norm_epsilon,
    "resid_pdrop": config.dropout_rate,
    "embd_pdrop": config.dropout_rate,
    "attn_pdrop": config.attention_dropout_rate,
    "scale_attn_weights": config.scale_attention,
    "tie_word_embeddings": config.tie_embeddings,
  }


def rules(config: TransformerConfig) -> Iterator[TensorRule]:
  yield TensorRule("token_embed/embedding", EMBEDDING, "V D -> V D")
  yield TensorRule("position_embed/embedding", "transformer.wpe.weight", "M D -> M D")
  for i in range(config.num_decoder_layers):
    yield from in_layer("decoder", i, f"transformer.h.{i}.", _layer())
  yield from norm("decoder/final_norm", "transformer.ln_f", True, factor=logit_factor(config))
  if not config.tie_embeddings:
    yield TensorRule("head/kernel", HEAD, "V D -> D V")


def aliases(config: TransformerConfig) -> dict[str, str]:
  return {HEAD: EMBEDDING} if config.tie_embeddings else {}


def _layer() -> Iterator[TensorRule]:
  yield from norm("self_attention_norm", "ln_1", True)
  for part, name in enumerate(("query", "key", "value")):
    yield from dense(
      f"self_attention/{name}", "attn.c_attn", "D (P N H) -> D N H", True, part, parts=3
    )
  yield from dense("self_attention/out", "attn.c_proj", "(N H) D -> N H D", True)
  yield from norm("mlp_norm", "ln_2", True)
  yield from dense("mlp/wi", "mlp.c_fc", "D F -> D F", True)
  yield from dense("mlp/wo", "mlp.c_proj", "F D -> F D", True)
