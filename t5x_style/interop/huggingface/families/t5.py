"""T5 1.0 and 1.1, UL2 and ByT5 (model_type t5), mT5 (model_type mt5)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from t5x_style.errors import UserError
from t5x_style.interop.huggingface.config_json import ACTIVATIONS, ConfigJson, activation_name
from t5x_style.interop.huggingface.config_keys import (
  Activation,
  ConfigKeys,
  Count,
  Epsilon,
  FullAttentionKeys,
  Rate,
  absent,
)
from t5x_style.interop.huggingface.safetensors_files import same_bits
from t5x_style.interop.huggingface.tensor_rules import TensorRule, dense, in_layer, norm
from t5x_style.models import TransformerConfig

ARCHITECTURE = "encoder_decoder"
CLASSES = ("T5ForConditionalGeneration", "MT5ForConditionalGeneration")
BASE_PREFIX, HEAD_PREFIXES = "", ()
EMBEDDING, HEAD = "shared.weight", "lm_head.weight"
# T5 1.0 was published with a table of positions for cross-attention that no model uses.
BUFFERS = (r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",)


class SharedKeys(FullAttentionKeys):
  """The keys that T5 and Switch have in common."""

  OTHER_NAMES: ClassVar[Mapping[str, str]] = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "head_dim": "d_kv",
  }

  vocab_size: Count = 32128
  d_model: Count = 512
  d_kv: Count = 64
  d_ff: Count = 2048
  num_layers: Count = 6
  num_decoder_layers: Count | None = None
  num_heads: Count = 8
  relative_attention_num_buckets: Annotated[int, Field(ge=4)] = 32
  relative_attention_max_distance: Count = 128
  dropout_rate: Rate = 0.1
  layer_norm_epsilon: Epsilon = 1e-6
  is_encoder_decoder: Literal[True] = True
  tie_word_embeddings: bool = True


class T5Keys(SharedKeys):
  feed_forward_proj: str = "relu"
  dense_act_fn: Activation = absent()
  is_gated_act: bool = absent()
  scale_decoder_outputs: bool = absent()


class MT5Keys(T5Keys):
  vocab_size: Count = 250112
  d_ff: Count = 1024
  num_layers: Count = 8
  num_heads: Count = 6
  feed_forward_proj: str = "gated-gelu"


KEYS: dict[str, type[ConfigKeys]] = {"t5": T5Keys, "mt5": MT5Keys}


def from_config_json(config_json: ConfigJson, tensors: Mapping[str, Any]) -> dict[str, Any]:
  keys = config_json.parse(MT5Keys if config_json.model_type == "mt5" else T5Keys)
  scaled = keys.tie_word_embeddings
  if keys.scale_decoder_outputs is not None:
    scaled = keys.scale_decoder_outputs
  if config_json.model_type == "mt5":
    scaled = False  # Whatever the file says: transformers' mT5 never scales.
  return fields_of(config_json, keys, tensors, scaled) | {
    "mlp_activations": _activations(config_json, keys)
  }


def fields_of(
  config_json: ConfigJson, keys: SharedKeys, tensors: Mapping[str, Any], scaled: bool
) -> dict[str, Any]:
  """Returns the fields of TransformerConfig that T5 and Switch have in common.

  Args:
    scaled: whether transformers divides the hidden states by sqrt(D) before the head.
  """
  # Not num_hidden_layers, the other name of num_layers: transformers sets that later.
  like_encoder = config_json.values.get("num_layers", type(keys).model_fields["num_layers"].default)
  return {
    "vocab_size": keys.vocab_size,
    "emb_dim": keys.d_model,
    "num_heads": keys.num_heads,
    "head_dim": keys.d_kv,
    "mlp_dim": keys.d_ff,
    "num_encoder_layers": keys.num_layers,
    "num_decoder_layers": keys.num_decoder_layers or like_encoder,
    "norm": "rms",
    "norm_epsilon": keys.layer_norm_epsilon,
    "dropout_rate": keys.dropout_rate,
    "scale_attention": False,
    "positions": "relative",
    "relative_buckets": keys.relative_attention_num_buckets,
    "relative_max_distance": keys.relative_attention_max_distance,
    "tie_embeddings": _is_tied(config_json, keys, tensors, scaled),
    "scale_logits": scaled,
  }


def _activations(config_json: ConfigJson, keys: T5Keys) -> tuple[str, ...]:
  """Returns the MLP's activations; dense_act_fn and is_gated_act win over feed_forward_proj."""
  form = keys.feed_forward_proj
  gated, first = form.startswith("gated-"), form.removeprefix("gated-")
  if form == "gated-gelu":
    first = "gelu_new"  # The name of T5 1.1, which transformers reads in this way too.
  if keys.dense_act_fn is None and first not in ACTIVATIONS:
    known = [*map(repr, ACTIVATIONS), "'gated-' followed by one of these"]
    raise config_json.refusal("feed_forward_proj", form, known, quoted=True)
  name = keys.dense_act_fn or cast(Activation, first)
  if keys.is_gated_act is not None:
    gated = keys.is_gated_act
  return (ACTIVATIONS[name], "linear") if gated else (ACTIVATIONS[name],)


def _is_tied(
  config_json: ConfigJson, keys: SharedKeys, tensors: Mapping[str, Any], scaled: bool
) -> bool:
  """Returns whether the head is tied.

  T5 1.0 ties and scales; T5 1.1 does neither and says so by tie_word_embeddings. Files of
  transformers 5 say whether to scale in scale_decoder_outputs, for tied heads and others.
  """
  own = HEAD in tensors
  if own and keys.tie_word_embeddings:
    own = not same_bits(tensors[HEAD], tensors.get(EMBEDDING))
  if own and scaled:
    raise UserError(
      f"{config_json.source}: {HEAD} is not {EMBEDDING}, and as the file does not say otherwise, "
      "transformers divides the hidden states by sqrt(d_model) before it; this package does that "
      'with a shared table only. If it is a T5 1.1, write "tie_word_embeddings": false there.'
    )
  return not own


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
  activation, *gate = config.mlp_activations
  form = activation_name(activation)
  if gate:
    form = "gated-gelu" if form == "gelu_new" else f"gated-{form}"
  return shared_config_json(config) | {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "feed_forward_proj": form,
    # If this is true, transformers 5 scales before every head; this package only before a tied one.
    "scale_decoder_outputs": config.tie_embeddings and config.scale_logits,
  }


def shared_config_json(config: TransformerConfig) -> dict[str, Any]:
  """Returns the keys of SharedKeys."""
  return {
    "vocab_size": config.vocab_size,
    "d_model": config.emb_dim,
    "num_heads": config.num_heads,
    "d_kv": config.head_dim,
    "d_ff": config.mlp_dim,
    "num_layers": config.num_encoder_layers,
    "num_decoder_layers": config.num_decoder_layers,
    "layer_norm_epsilon": config.norm_epsilon,
    "dropout_rate": config.dropout_rate,
    "relative_attention_num_buckets": config.relative_buckets,
    "relative_attention_max_distance": config.relative_max_distance,
    "tie_word_embeddings": config.tie_embeddings,
    "is_encoder_decoder": True,
  }


def rules(config: TransformerConfig) -> Iterator[TensorRule]:
  def mlp(layer: int, prefix: str) -> Iterator[TensorRule]:
    gates = ("wi_0", "wi_1") if len(config.mlp_activations) > 1 else ("wi",)
    for name in gates:
      yield from dense(f"mlp/{name}", f"{prefix}DenseReluDense.{name}", "F D -> D F", False)
    yield from dense("mlp/wo", f"{prefix}DenseReluDense.wo", "D F -> F D", False)

  return rules_with(config, mlp)


def rules_with(
  config: TransformerConfig, mlp: Callable[[int, str], Iterator[TensorRule]]
) -> Iterator[TensorRule]:
  """Yields the rules of an encoder-decoder of T5's kind.

  Args:
    mlp: (layer, beginning of the names of its tensors) -> the rules of its feed-forward network.
  """
  yield TensorRule("token_embed/embedding", EMBEDDING, "V D -> V D")
  for stack, layers in (
    ("encoder", config.num_encoder_layers),
    ("decoder", config.num_decoder_layers),
  ):
    table = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    yield TensorRule(f"{stack}/relative_bias/embedding", table, "R N -> N R")
    for i in range(layers):
      in_this = itertools.chain(_attention_rules(stack), mlp(i, _mlp_prefix(stack)))
      yield from in_layer(stack, i, f"{stack}.block.{i}.layer.", in_this)
    factor = config.tied_logit_factor if stack == "decoder" else 1.0
    yield from norm(f"{stack}/final_norm", f"{stack}.final_layer_norm", False, factor=factor)
  if not config.tie_embeddings:
    yield TensorRule("head/kernel", HEAD, "V D -> D V")


def aliases(config: TransformerConfig) -> dict[str, str]:
  tied = {"encoder.embed_tokens.weight": EMBEDDING, "decoder.embed_tokens.weight": EMBEDDING}
  return tied | ({HEAD: EMBEDDING} if config.tie_embeddings else {})


def _mlp_prefix(stack: str) -> str:
  return "2." if stack == "decoder" else "1."


def _attention_rules(stack: str) -> Iterator[TensorRule]:
  parts = [("self_attention", "SelfAttention")]
  if stack == "decoder":
    parts.append(("cross_attention", "EncDecAttention"))
  for i, (module, tensor) in enumerate(parts):
    yield from norm(f"{module}_norm", f"{i}.layer_norm", False)
    for name, letter in (("query", "q"), ("key", "k"), ("value", "v")):
      yield from dense(f"{module}/{name}", f"{i}.{tensor}.{letter}", "(N H) D -> D N H", False)
    yield from dense(f"{module}/out", f"{i}.{tensor}.o", "D (N H) -> N H D", False)
  yield from norm("mlp_norm", f"{len(parts)}.layer_norm", False)
