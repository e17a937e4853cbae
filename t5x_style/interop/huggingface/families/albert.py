"""ALBERT (model_type albert): a group of layers that is repeated, and narrow embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from t5x_style.errors import UserError
from t5x_style.interop.huggingface.config_json import ConfigJson
from t5x_style.interop.huggingface.config_keys import Activation, ConfigKeys, Count, Rate
from t5x_style.interop.huggingface.families import bert
from t5x_style.interop.huggingface.families.bert import BertKeys
from t5x_style.interop.huggingface.tensor_rules import (
  TensorRule,
  dense,
  in_layer,
  logit_factor,
  norm,
)
from t5x_style.models import TransformerConfig

ARCHITECTURE = "encoder_only"
CLASSES = ("AlbertForPreTraining", "AlbertForMaskedLM")
BASE_PREFIX, HEAD_PREFIXES = "albert.", ("predictions.", "sop_classifier.")
EMBEDDING, HEAD = "albert.embeddings.word_embeddings.weight", "predictions.decoder.weight"
BUFFERS = (r"albert\.embeddings\.position_ids",)
UNUSED_TENSORS = {"albert.pooler.weight": "D D", "albert.pooler.bias": "D"}

_TRANSFORM, _PAIRS = "predictions.dense.weight", "sop_classifier.classifier.weight"


class AlbertKeys(BertKeys):
  vocab_size: Count = 30000
  embedding_size: Count = 128
  hidden_size: Count = 4096
  num_attention_heads: Count = 64
  intermediate_size: Count = 16384
  num_hidden_groups: Literal[1] = 1
  inner_group_num: Count = 1
  hidden_act: Activation = "gelu_new"
  hidden_dropout_prob: Rate = 0.0
  attention_probs_dropout_prob: Rate = 0.0
  tie_word_embeddings: Literal[True] = True


KEYS: dict[str, type[ConfigKeys]] = {"albert": AlbertKeys}


def from_config_json(config_json: ConfigJson, tensors: Mapping[str, Any]) -> dict[str, Any]:
  keys = config_json.parse(AlbertKeys)
  masked = _TRANSFORM in tensors
  if not masked:
    raise UserError(
      f"{config_json.source} is of an ALBERT without the head for masked tokens ({_TRANSFORM}), "
      "which this package needs: it maps hidden states back to the width of the embedding table."
    )
  return bert.encoder_fields(config_json, keys) | {
    # A group of n layers is a cycle of n windows.
    "num_encoder_layers": keys.num_hidden_layers * keys.inner_group_num,
    "attention_windows": (None,) * keys.inner_group_num,
    "share_layers": True,
    "factorized_dim": keys.embedding_size,
    "head_transform": masked,
    "head_bias": masked,
    "pooled_classes": 2 if _PAIRS in tensors else 0,
  }


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
  group = len(config.attention_windows)
  architecture = "AlbertForPreTraining" if config.pooled_classes else "AlbertForMaskedLM"
  return bert.encoder_config_json(config) | {
    "model_type": "albert",
    "architectures": [architecture],
    "num_hidden_layers": config.num_encoder_layers // group,
    "num_hidden_groups": 1,
    "inner_group_num": group,
    "embedding_size": config.table_dim,
  }


def rules(config: TransformerConfig) -> Iterator[TensorRule]:
  yield from bert.embedding_rules(BASE_PREFIX)
  mapping = "albert.encoder.embedding_hidden_mapping_in"
  yield from dense("embed_projection", mapping, "D E -> E D", True)
  group = "albert.encoder.albert_layer_groups.0.albert_layers"
  for i in range(len(config.attention_windows)):
    yield from in_layer("encoder", i, f"{group}.{i}.", _layer())
  if config.head_transform:
    yield from dense("head/transform", "predictions.dense", "E D -> D E", True)
    factor = logit_factor(config)
    yield from norm("head/transform_norm", "predictions.LayerNorm", True, "E", factor)
  if config.head_bias:
    yield TensorRule("head/bias", "predictions.bias", "V -> V")
  if config.pooled_classes:
    yield from dense("pooler/dense", "albert.pooler", "O D -> D O", True)
    yield from dense("pooler/classes", "sop_classifier.classifier", "C D -> D C", True)


def aliases(config: TransformerConfig) -> dict[str, str]:
  return {"predictions.decoder.bias": "predictions.bias", HEAD: EMBEDDING}


def _layer() -> Iterator[TensorRule]:
  for name in ("query", "key", "value"):
    yield from dense(f"self_attention/{name}", f"attention.{name}", "(N H) D -> D N H", True)
  yield from dense("self_attention/out", "attention.dense", "D (N H) -> N H D", True)
  yield from norm("self_attention_norm", "attention.LayerNorm", True)
  yield from dense("mlp/wi", "ffn", "F D -> D F", True)
  yield from dense("mlp/wo", "ffn_output", "D F -> F D", True)
  yield from norm("mlp_norm", "full_layer_layer_norm", True)
