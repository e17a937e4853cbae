"""GPT-2 (model_type gpt2): maps are stored input first; queries, keys and values are one map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.interop.rules import Rule, dense, in_layer, logit_factor, norm
from t5x_style.interop.settings import Settings, their_activation
from t5x_style.models import TransformerConfig

ARCHITECTURES = ("GPT2LMHeadModel", "GPT2Model")
BASE = "transformer."
HEADS = ("lm_head.",)
EMBEDDING, HEAD = "transformer.wte.weight", "lm_head.weight"
BUFFERS = (r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",)


def from_settings(settings: Settings, tensors: Mapping[str, Any]) -> dict[str, Any]:
  width, heads = settings.get("n_embd"), settings.get("n_head")
  settings.only("add_cross_attention", False)
  settings.only("scale_attn_by_inverse_layer_idx", False)
  return {
    "vocab_size": settings.get("vocab_size"),
    "emb_dim": width,
    "num_heads": heads,
    "head_dim": width // heads,
    "mlp_dim": settings.get("n_inner", 4 * width),
    "num_decoder_layers": settings.get("n_layer"),
    "mlp_activations": (settings.activation("activation_function", "gelu_new"),),
    "norm": "layer",
    "norm_epsilon": settings.get("layer_norm_epsilon", 1e-5),
    "use_bias": True,
    "dropout_rate": settings.get("resid_pdrop", 0.1),
    "scale_attention": settings.only("scale_attn_weights", True, False),
    "positions": "learned",
    "max_length": settings.get("n_positions", 1024),
    "tie_embeddings": settings.only("tie_word_embeddings", True, False),
    "scale_logits": False,
    "kernel_init_std": settings.get("initializer_range", 0.02),
    "embedding_init_std": settings.get("initializer_range", 0.02),
  }


def to_settings(config: TransformerConfig) -> dict[str, Any]:
  return {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": config.vocab_size,
    "n_embd": config.emb_dim,
    "n_head": config.num_heads,
    "n_inner": config.mlp_dim,
    "n_layer": config.num_decoder_layers,
    "n_positions": config.max_length,
    "activation_function": their_activation(config.mlp_activations[0]),
    "layer_norm_epsilon": config.norm_epsilon,
    "resid_pdrop": config.dropout_rate,
    "embd_pdrop": config.dropout_rate,
    "attn_pdrop": 0.0,
    "scale_attn_weights": config.scale_attention,
    "tie_word_embeddings": config.tie_embeddings,
  }


def rules(config: TransformerConfig) -> Iterator[Rule]:
  yield Rule("token_embed/embedding", EMBEDDING, "V D -> V D")
  yield Rule("position_embed/embedding", "transformer.wpe.weight", "M D -> M D")
  for i in range(config.num_decoder_layers):
    yield from in_layer("decoder", i, f"transformer.h.{i}.", _layer())
  yield from norm("decoder/final_norm", "transformer.ln_f", True, factor=logit_factor(config))
  if not config.tie_embeddings:
    yield Rule("head/kernel", HEAD, "V D -> D V")


def aliases(config: TransformerConfig) -> dict[str, str]:
  return {HEAD: EMBEDDING} if config.tie_embeddings else {}


def _layer() -> Iterator[Rule]:
  yield from norm("self_attention_norm", "ln_1", True)
  for part, name in enumerate(("query", "key", "value")):
    yield from dense(
      f"self_attention/{name}", "attn.c_attn", "D (P N H) -> D N H", True, part, parts=3
    )
  yield from dense("self_attention/out", "attn.c_proj", "(N H) D -> N H D", True)
  yield from norm("mlp_norm", "ln_2", True)
  yield from dense("mlp/wi", "mlp.c_fc", "D F -> D F", True)
  yield from dense("mlp/wo", "mlp.c_proj", "F D -> F D", True)
