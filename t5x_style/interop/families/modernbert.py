"""ModernBERT (model_type modernbert): fused maps, local and global layers, no first norm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.interop.rules import Rule, dense, in_layer, logit_factor, norm
from t5x_style.interop.settings import Settings, cycle, their_activation
from t5x_style.models import TransformerConfig

ARCHITECTURES = ("ModernBertForMaskedLM", "ModernBertModel")
BASE, HEADS = "model.", ("head.", "decoder.")
EMBEDDING, HEAD = "model.embeddings.tok_embeddings.weight", "decoder.weight"
BUFFERS = (r"model\.(layers\.\d+\.attn\.)?rotary_emb\.(\w+_)?inv_freq",)

_TRANSFORM, _FULL, _LOCAL = "head.dense.weight", "full_attention", "sliding_attention"


def from_settings(settings: Settings, tensors: Mapping[str, Any]) -> dict[str, Any]:
  width, heads = settings.get("hidden_size"), settings.get("num_attention_heads")
  layers = settings.get("num_hidden_layers")
  bias = settings.get("attention_bias", False)
  activation = settings.activation("hidden_activation", "gelu")
  masked = _TRANSFORM in tensors
  for name in ("mlp_bias", "norm_bias", *(["classifier_bias"] if masked else [])):
    if settings.get(name, False) != bias:
      raise settings.refusal(name, not bias, [f"attention_bias = {bias}"])
  if masked and settings.activation("classifier_activation", "gelu") != activation:
    their = settings.get("classifier_activation")
    raise settings.refusal("classifier_activation", their, ["the hidden_activation"])
  every = settings.get("global_attn_every_n_layers", 3)
  kinds = settings.get("layer_types", [_LOCAL if i % every else _FULL for i in range(layers)])
  for kind in kinds:
    if kind not in (_FULL, _LOCAL):
      raise settings.refusal("layer_types", kind, [_FULL, _LOCAL])
  # The whole width of the window is given, both sides together.
  window = settings.get("local_attention", 128) // 2
  windows = cycle([window if kind == _LOCAL else None for kind in kinds])
  for kind in (_FULL, _LOCAL):
    settings.rotary_scaling(kind=kind)
  return {
    "vocab_size": settings.get("vocab_size"),
    "emb_dim": width,
    "num_heads": heads,
    "head_dim": width // heads,
    "mlp_dim": settings.get("intermediate_size"),
    "num_encoder_layers": layers,
    "mlp_activations": (activation, "linear"),
    "norm": "layer",
    "first_attention_norm": False,
    "norm_epsilon": settings.get("norm_eps", 1e-5),
    "use_bias": bias,
    "dropout_rate": settings.get("mlp_dropout", 0.0),
    "positions": "rotary",
    "rotary_base": settings.rotary_base(_FULL, "global_rope_theta", 160_000.0),
    "attention_windows": windows,
    "rotary_base_local": settings.rotary_base(_LOCAL, "local_rope_theta", 10_000.0),
    "padding_id": settings.get("pad_token_id", 50283),
    "embedding_norm": True,
    "tie_embeddings": settings.only("tie_word_embeddings", True, False),
    "scale_logits": False,
    "head_transform": masked,
    "head_bias": masked and settings.get("decoder_bias", True),
    "kernel_init_std": settings.get("initializer_range", 0.02),
    "embedding_init_std": settings.get("initializer_range", 0.02),
  }


def to_settings(config: TransformerConfig) -> dict[str, Any]:
  layers, windows = config.num_encoder_layers, config.attention_windows
  kinds = [_LOCAL if windows[i % len(windows)] else _FULL for i in range(layers)]
  local = config.rotary_base if config.rotary_base_local is None else config.rotary_base_local
  settings = {
    "model_type": "modernbert",
    "architectures": ["ModernBertForMaskedLM" if config.head_transform else "ModernBertModel"],
    "vocab_size": config.vocab_size,
    "hidden_size": config.emb_dim,
    "num_attention_heads": config.num_heads,
    "intermediate_size": config.mlp_dim,
    "num_hidden_layers": layers,
    "hidden_activation": their_activation(config.mlp_activations[0]),
    "classifier_activation": their_activation(config.mlp_activations[0]),
    "norm_eps": config.norm_epsilon,
    "mlp_dropout": config.dropout_rate,
    "embedding_dropout": config.dropout_rate,
    "layer_types": kinds,
    "local_attention": 2 * next(filter(None, windows), 64),
    # Both spellings: transformers 4 reads the first two, 5 the third.
    "global_rope_theta": config.rotary_base,
    "local_rope_theta": local,
    "rope_parameters": {
      _FULL: {"rope_type": "default", "rope_theta": config.rotary_base},
      _LOCAL: {"rope_type": "default", "rope_theta": local},
    },
    "pad_token_id": config.padding_id,
    "decoder_bias": config.head_bias,
    "tie_word_embeddings": config.tie_embeddings,
  }
  biases = ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias")
  return settings | dict.fromkeys(biases, config.use_bias)


def rules(config: TransformerConfig) -> Iterator[Rule]:
  bias = config.use_bias
  yield Rule("token_embed/embedding", EMBEDDING, "V E -> V E")
  yield from norm("embed_norm", "model.embeddings.norm", bias)
  for i in range(config.num_encoder_layers):
    yield from in_layer("encoder", i, f"model.layers.{i}.", _layer(config, first=i == 0))
  factor = logit_factor(config)
  last = 1.0 if config.head_transform else factor
  yield from norm("encoder/final_norm", "model.final_norm", bias, factor=last)
  if config.head_transform:
    yield from dense("head/transform", "head.dense", "O D -> D O", bias)
    yield from norm("head/transform_norm", "head.norm", bias, factor=factor)
  if config.head_bias:
    yield Rule("head/bias", "decoder.bias", "V -> V")
  if not config.tie_embeddings:
    yield Rule("head/kernel", HEAD, "V D -> D V")


def aliases(config: TransformerConfig) -> dict[str, str]:
  return {HEAD: EMBEDDING} if config.tie_embeddings else {}


def _layer(config: TransformerConfig, first: bool) -> Iterator[Rule]:
  bias = config.use_bias
  if not first or config.first_attention_norm:
    yield from norm("self_attention_norm", "attn_norm", bias)
  for part, name in enumerate(("query", "key", "value")):
    ours, layout = f"self_attention/{name}", "(P N H) D -> D N H"
    yield from dense(ours, "attn.Wqkv", layout, bias, part, parts=3)
  yield from dense("self_attention/out", "attn.Wo", "D (N H) -> N H D", bias)
  yield from norm("mlp_norm", "mlp_norm", bias)
  for part, name in enumerate(("wi_0", "wi_1")):
    yield from dense(f"mlp/{name}", "mlp.Wi", "(P F) D -> D F", bias, part, parts=2)
  yield from dense("mlp/wo", "mlp.Wo", "D F -> F D", bias)
