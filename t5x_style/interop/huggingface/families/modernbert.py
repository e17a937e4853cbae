"""ModernBERT (model_type modernbert): fused kernels, local and global layers, no first norm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

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
  Epsilon,
  Positive,
  Rate,
  Window,
  absent,
)
from t5x_style.interop.huggingface.rotary_keys import (
  FULL,
  LOCAL,
  RotaryKeys,
  layer_windows,
  rotary_fields_by_kind,
)
from t5x_style.interop.huggingface.tensor_rules import (
  TensorRule,
  dense,
  in_layer,
  logit_factor,
  norm,
)
from t5x_style.models import TransformerConfig

ARCHITECTURE = "encoder_only"
CLASSES = ("ModernBertForMaskedLM", "ModernBertModel")
BASE_PREFIX, HEAD_PREFIXES = "model.", ("head.", "decoder.")
EMBEDDING, HEAD = "model.embeddings.tok_embeddings.weight", "decoder.weight"
BUFFERS = (r"model\.(layers\.\d+\.attn\.)?rotary_emb\.(\w+_)?inv_freq",)

_TRANSFORM = "head.dense.weight"


class ModernBertKeys(RotaryKeys):
  vocab_size: Count = 50368
  hidden_size: Count = 768
  intermediate_size: Count = 1152
  num_hidden_layers: Count = 22
  num_attention_heads: Count = 12
  head_dim: Count | None = None  # of the rotary positions only
  hidden_activation: Activation = "gelu"
  initializer_range: Deviation = 0.02
  norm_eps: Epsilon = 1e-5
  norm_bias: bool = False
  attention_bias: bool = False
  mlp_bias: bool = False
  mlp_dropout: Rate = 0.0
  attention_dropout: Rate = 0.0  # of the weights, and of what attention adds to the residual
  decoder_bias: bool = True
  classifier_bias: bool = False
  classifier_activation: Activation = "gelu"
  layer_types: list[Literal["full_attention", "sliding_attention"]] | None = None
  global_attn_every_n_layers: Count = 3
  local_attention: Window = 128  # both sides together
  sliding_window: Count = absent()  # one side; wins over local_attention
  global_rope_theta: Positive = 160_000.0
  local_rope_theta: Positive = 10_000.0
  pad_token_id: int | None = 50283
  tie_word_embeddings: bool = True


KEYS: dict[str, type[ConfigKeys]] = {"modernbert": ModernBertKeys}


def from_config_json(config_json: ConfigJson, tensors: Mapping[str, Any]) -> dict[str, Any]:
  keys = config_json.parse(ModernBertKeys)
  masked = _TRANSFORM in tensors
  _check_biases_and_activations(config_json, keys, masked)
  head_dim = head_width(config_json, keys.hidden_size, keys.num_attention_heads)
  if keys.head_dim not in (None, head_dim):
    raise config_json.refusal("head_dim", keys.head_dim, [head_dim])
  bases = rotary_fields_by_kind(
    config_json, keys, {FULL: keys.global_rope_theta, LOCAL: keys.local_rope_theta}
  )
  return {
    "vocab_size": keys.vocab_size,
    "emb_dim": keys.hidden_size,
    "num_heads": keys.num_attention_heads,
    "head_dim": head_dim,
    "mlp_dim": keys.intermediate_size,
    "num_encoder_layers": keys.num_hidden_layers,
    "mlp_activations": (ACTIVATIONS[keys.hidden_activation], "linear"),
    "norm": "layer",
    "first_attention_norm": False,
    "norm_epsilon": keys.norm_eps,
    "use_bias": keys.attention_bias,
    "dropout_rate": keys.mlp_dropout or keys.attention_dropout,
    "dropout_places": "t5" if keys.mlp_dropout else "modernbert",
    "attention_dropout_rate": keys.attention_dropout,
    "positions": "rotary",
    "rotary_base": bases[FULL],
    "attention_windows": _windows(config_json, keys),
    "rotary_base_local": bases[LOCAL],
    "padding_id": NO_PADDING if keys.pad_token_id is None else keys.pad_token_id,
    "embedding_norm": True,
    "tie_embeddings": keys.tie_word_embeddings,
    "scale_logits": False,
    "head_transform": masked,
    "head_bias": masked and keys.decoder_bias,
    "kernel_init_std": keys.initializer_range,
    "embedding_init_std": keys.initializer_range,
  }


def _check_biases_and_activations(
  config_json: ConfigJson, keys: ModernBertKeys, masked: bool
) -> None:
  """Raises UserError if layers differ in settings that TransformerConfig has only once."""
  bias, activation = keys.attention_bias, ACTIVATIONS[keys.hidden_activation]
  for name in ("mlp_bias", "norm_bias", *(["classifier_bias"] if masked else [])):
    if getattr(keys, name) != bias:
      raise config_json.refusal(name, not bias, [f"attention_bias = {bias}"])
  if masked and ACTIVATIONS[keys.classifier_activation] != activation:
    name = keys.classifier_activation
    raise config_json.refusal("classifier_activation", name, ["the hidden_activation"])


def _windows(config_json: ConfigJson, keys: ModernBertKeys) -> tuple[int | None, ...]:
  """Returns how many tokens to either side each layer sees."""
  layers, every = keys.num_hidden_layers, keys.global_attn_every_n_layers
  kinds: Sequence[str] = keys.layer_types or [LOCAL if i % every else FULL for i in range(layers)]
  window = keys.sliding_window or keys.local_attention // 2
  return layer_windows(config_json, layers, kinds, window)


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
  layers, windows = config.num_encoder_layers, config.attention_windows
  kinds = [LOCAL if windows[i % len(windows)] else FULL for i in range(layers)]
  local = config.rotary_base if config.rotary_base_local is None else config.rotary_base_local
  config_json = {
    "model_type": "modernbert",
    "architectures": ["ModernBertForMaskedLM" if config.head_transform else "ModernBertModel"],
    "vocab_size": config.vocab_size,
    "hidden_size": config.emb_dim,
    "num_attention_heads": config.num_heads,
    "intermediate_size": config.mlp_dim,
    "num_hidden_layers": layers,
    "hidden_activation": activation_name(config.mlp_activations[0]),
    "classifier_activation": activation_name(config.mlp_activations[0]),
    "norm_eps": config.norm_epsilon,
    **_dropout_json(config),
    "layer_types": kinds,
    "local_attention": 2 * next(filter(None, windows), 64),
    # transformers 4 reads the first two keys, 5 the third.
    "global_rope_theta": config.rotary_base,
    "local_rope_theta": local,
    "rope_parameters": {
      FULL: {"rope_type": "default", "rope_theta": config.rotary_base},
      LOCAL: {"rope_type": "default", "rope_theta": local},
    },
    "pad_token_id": None if config.padding_id == NO_PADDING else config.padding_id,
    "decoder_bias": config.head_bias,
    "tie_word_embeddings": config.tie_embeddings,
  }
  biases = ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias")
  return config_json | dict.fromkeys(biases, config.use_bias)


def rules(config: TransformerConfig) -> Iterator[TensorRule]:
  bias = config.use_bias
  yield TensorRule("token_embed/embedding", EMBEDDING, "V E -> V E")
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
    yield TensorRule("head/bias", "decoder.bias", "V -> V")
  if not config.tie_embeddings:
    yield TensorRule("head/kernel", HEAD, "V D -> D V")


def aliases(config: TransformerConfig) -> dict[str, str]:
  return {HEAD: EMBEDDING} if config.tie_embeddings else {}


def _layer(config: TransformerConfig, first: bool) -> Iterator[TensorRule]:
  bias = config.use_bias
  if not first or config.first_attention_norm:
    yield from norm("self_attention_norm", "attn_norm", bias)
  for part, name in enumerate(("query", "key", "value")):
    layout = "(P N H) D -> D N H"
    yield from dense(f"self_attention/{name}", "attn.Wqkv", layout, bias, part, parts=3)
  yield from dense("self_attention/out", "attn.Wo", "D (N H) -> N H D", bias)
  yield from norm("mlp_norm", "mlp_norm", bias)
  for part, name in enumerate(("wi_0", "wi_1")):
    yield from dense(f"mlp/{name}", "mlp.Wi", "(P F) D -> D F", bias, part, parts=2)
  yield from dense("mlp/wo", "mlp.Wo", "D F -> F D", bias)


def _dropout_json(config: TransformerConfig) -> dict[str, float]:
  """Returns the rates of a config.json; transformers has one for all places of attention."""
  if config.dropout_places == "modernbert":
    return {"mlp_dropout": 0.0, "embedding_dropout": 0.0, "attention_dropout": config.dropout_rate}
  return {
    "mlp_dropout": config.dropout_rate if config.dropout_places == "t5" else 0.0,
    "embedding_dropout": config.dropout_rate,
    "attention_dropout": config.attention_dropout_rate,
  }
