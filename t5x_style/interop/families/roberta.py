"""RoBERTa (model_type roberta): BERT with positions counted from behind the id of padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.interop.families import bert
from t5x_style.interop.rules import Rule, dense, logit_factor, norm
from t5x_style.interop.settings import Settings
from t5x_style.models import TransformerConfig

ARCHITECTURES = ("RobertaForMaskedLM", "RobertaModel")
BASE, HEADS = "roberta.", ("lm_head.",)
EMBEDDING, HEAD = "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"
BUFFERS = (r"roberta\.embeddings\.position_ids",)
UNUSED = (r"roberta\.pooler\.dense\.(weight|bias)", r"lm_head\.bias")

_BIASES = "lm_head.bias", "lm_head.decoder.bias"
_TRANSFORM = "lm_head.dense.weight"


def from_settings(settings: Settings, tensors: Mapping[str, Any]) -> dict[str, Any]:
  padding = settings.get("pad_token_id", 1)
  rows = settings.get("max_position_embeddings", 512)
  return bert.encoder_fields(settings) | {
    "padding_id": padding,
    "position_offset": padding + 1,
    "max_length": rows - padding - 1,
    "head_transform": _TRANSFORM in tensors,
    "head_bias": _TRANSFORM in tensors,
  }


def to_settings(config: TransformerConfig) -> dict[str, Any]:
  return bert.encoder_settings(config) | {
    "model_type": "roberta",
    "architectures": ["RobertaForMaskedLM" if config.head_transform else "RobertaModel"],
    "max_position_embeddings": config.max_length + config.position_offset,
  }


def rules(config: TransformerConfig) -> Iterator[Rule]:
  yield from bert.encoder_rules(config, BASE)
  if config.head_transform:
    yield from dense("head/transform", "lm_head.dense", "O D -> D O", True)
    yield from norm("head/transform_norm", "lm_head.layer_norm", True, factor=logit_factor(config))
  if config.head_bias:
    yield Rule("head/bias", _BIASES[not config.tie_embeddings], "V -> V")
  if not config.tie_embeddings:
    yield Rule("head/kernel", HEAD, "V D -> D V")


def aliases(config: TransformerConfig) -> dict[str, str]:
  return {_BIASES[1]: _BIASES[0], HEAD: EMBEDDING} if config.tie_embeddings else {}


def copies(config: TransformerConfig) -> dict[str, str]:
  """As of BERT."""
  return {_BIASES[0]: _BIASES[1]} if config.head_bias and not config.tie_embeddings else {}
