"""T5 1.0 and 1.1, UL2 and ByT5 (model_type t5), mT5 (model_type mt5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.interop.rules import Rule, dense, in_layer, norm
from t5x_style.interop.safetensors_files import same_bits
from t5x_style.interop.settings import Settings, their_activation
from t5x_style.models import TransformerConfig

ARCHITECTURES = ("T5ForConditionalGeneration", "MT5ForConditionalGeneration")
BASE, HEADS = "", ()
EMBEDDING, HEAD = "shared.weight", "lm_head.weight"
# T5 1.0 was published with a table of cross-attention positions that no model uses.
BUFFERS = (r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",)


def from_settings(settings: Settings, tensors: Mapping[str, Any]) -> dict[str, Any]:
  form = settings.get("feed_forward_proj", "relu")
  gated, activation = form.startswith("gated-"), form.removeprefix("gated-")
  if form == "gated-gelu":
    activation = "gelu_new"  # The name of T5 1.1, which transformers reads in this way too.
  first = Settings({"feed_forward_proj": activation}, settings.source).activation(
    "feed_forward_proj", "relu"
  )
  layers = settings.get("num_layers")
  # T5 1.1 has a head of its own, and only with the shared table are the logits scaled. Files say so
  # by tie_word_embeddings; those written by transformers 5 say scale_decoder_outputs instead.
  said_tied = settings.get("tie_word_embeddings", True)
  scaled = settings.get("scale_decoder_outputs", said_tied)
  if settings.get("model_type") == "mt5":
    scaled = False
  tied = HEAD not in tensors or (said_tied and same_bits(tensors[HEAD], tensors.get(EMBEDDING)))
  return {
    "vocab_size": settings.get("vocab_size"),
    "emb_dim": settings.get("d_model"),
    "num_heads": settings.get("num_heads"),
    "head_dim": settings.get("d_kv"),
    "mlp_dim": settings.get("d_ff"),
    "num_encoder_layers": layers,
    "num_decoder_layers": settings.get("num_decoder_layers", layers),
    "mlp_activations": (first, "linear") if gated else (first,),
    "norm": "rms",
    "norm_epsilon": settings.get("layer_norm_epsilon", 1e-6),
    "dropout_rate": settings.get("dropout_rate", 0.1),
    "scale_attention": False,
    "positions": "relative",
    "relative_buckets": settings.get("relative_attention_num_buckets", 32),
    "relative_max_distance": settings.get("relative_attention_max_distance", 128),
    "tie_embeddings": tied,
    "scale_logits": scaled,
  }


def to_settings(config: TransformerConfig) -> dict[str, Any]:
  activation, *gate = config.mlp_activations
  form = their_activation(activation)
  if gate:
    form = "gated-gelu" if form == "gelu_new" else f"gated-{form}"
  return {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "vocab_size": config.vocab_size,
    "d_model": config.emb_dim,
    "num_heads": config.num_heads,
    "d_kv": config.head_dim,
    "d_ff": config.mlp_dim,
    "num_layers": config.num_encoder_layers,
    "num_decoder_layers": config.num_decoder_layers,
    "feed_forward_proj": form,
    "layer_norm_epsilon": config.norm_epsilon,
    "dropout_rate": config.dropout_rate,
    "relative_attention_num_buckets": config.relative_buckets,
    "relative_attention_max_distance": config.relative_max_distance,
    "tie_word_embeddings": config.tie_embeddings,
    "scale_decoder_outputs": config.scale_logits,
    "is_encoder_decoder": True,
  }


def rules(config: TransformerConfig) -> Iterator[Rule]:
  yield Rule("token_embed/embedding", EMBEDDING, "V D -> V D")
  for stack, layers in (
    ("encoder", config.num_encoder_layers),
    ("decoder", config.num_decoder_layers),
  ):
    table = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    yield Rule(f"{stack}/relative_bias/embedding", table, "R N -> N R")
    for i in range(layers):
      yield from in_layer(stack, i, f"{stack}.block.{i}.layer.", _layer(config, stack))
    yield from norm(f"{stack}/final_norm", f"{stack}.final_layer_norm", False)
  if not config.tie_embeddings:
    yield Rule("head/kernel", HEAD, "V D -> D V")


def aliases(config: TransformerConfig) -> dict[str, str]:
  tied = {"encoder.embed_tokens.weight": EMBEDDING, "decoder.embed_tokens.weight": EMBEDDING}
  return tied | ({HEAD: EMBEDDING} if config.tie_embeddings else {})


def _layer(config: TransformerConfig, stack: str) -> Iterator[Rule]:
  parts = [("self_attention", "SelfAttention")]
  if stack == "decoder":
    parts.append(("cross_attention", "EncDecAttention"))
  for i, (ours, theirs) in enumerate(parts):
    yield from norm(f"{ours}_norm", f"{i}.layer_norm", False)
    for name, letter in (("query", "q"), ("key", "k"), ("value", "v")):
      yield from dense(f"{ours}/{name}", f"{i}.{theirs}.{letter}", "(N H) D -> D N H", False)
    yield from dense(f"{ours}/out", f"{i}.{theirs}.o", "D (N H) -> N H D", False)
  mlp = f"{len(parts)}.DenseReluDense"
  yield from norm("mlp_norm", f"{len(parts)}.layer_norm", False)
  gates = ("wi_0", "wi_1") if len(config.mlp_activations) > 1 else ("wi",)
  for name in gates:
    yield from dense(f"mlp/{name}", f"{mlp}.{name}", "F D -> D F", False)
  yield from dense("mlp/wo", f"{mlp}.wo", "D F -> F D", False)
