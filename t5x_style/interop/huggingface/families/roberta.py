"""RoBERTa (model_type roberta): BERT with positions counted from the id of padding."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from t5x_style.interop.huggingface.config_json import ACTIVATIONS, ConfigJson
from t5x_style.interop.huggingface.config_keys import ConfigKeys, Count
from t5x_style.interop.huggingface.families import bert
from t5x_style.interop.huggingface.families.bert import BertKeys
from t5x_style.interop.huggingface.tensor_rules import TensorRule, dense, logit_factor, norm
from t5x_style.models import TransformerConfig

ARCHITECTURE = "encoder_only"
CLASSES = ("RobertaForMaskedLM", "RobertaForSequenceClassification", "RobertaModel")
BASE_PREFIX, HEAD_PREFIXES = "roberta.", ("lm_head.", "classifier.")
EMBEDDING, HEAD = "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"
BUFFERS = (r"roberta\.embeddings\.position_ids",)
UNUSED_TENSORS = {
  "roberta.pooler.dense.weight": "D D",
  "roberta.pooler.dense.bias": "D",
  "lm_head.bias": "V",
}

_BIASES = "lm_head.bias", "lm_head.decoder.bias"
_TRANSFORM, _LABELS = "lm_head.dense.weight", "classifier.out_proj.weight"


class RobertaKeys(BertKeys):
  vocab_size: Count = 50265
  pad_token_id: Annotated[int, Field(ge=0)] = 1


KEYS: dict[str, type[ConfigKeys]] = {"roberta": RobertaKeys}


def from_config_json(config_json: ConfigJson, tensors: Mapping[str, Any]) -> dict[str, Any]:
  keys = config_json.parse(RobertaKeys)
  padding, masked = keys.pad_token_id, _TRANSFORM in tensors
  if masked and ACTIVATIONS[keys.hidden_act] != "gelu_exact":
    # The head's activation is always GELU; this package has one activation for head and layers.
    raise config_json.refusal("hidden_act", keys.hidden_act, ["gelu"])
  if keys.max_position_embeddings <= padding + 1:
    raise config_json.refusal(
      "max_position_embeddings",
      keys.max_position_embeddings,
      [f"more than {padding + 1}, as positions begin after pad_token_id = {padding}"],
      quoted=True,
    )
  fields = bert.encoder_fields(config_json, keys) | {
    "padding_id": padding,
    "position_offset": padding + 1,
    "positions_skip_padding": True,
    "max_length": keys.max_position_embeddings - padding - 1,
    "head_transform": masked,
    "head_bias": masked,
  }
  return fields | (bert.label_fields(config_json) if _LABELS in tensors else {})


def as_written(config: TransformerConfig) -> TransformerConfig:
  """Returns the model that is read back from what is written, for rows that end with padding.

  transformers counts positions from the id of padding, so other unused rows are not written.
  """
  config = bert.as_written(config)
  offset = config.padding_id + 1
  if config.padding_id < 0 or config.position_offset < offset:
    return config
  return dataclasses.replace(config, position_offset=offset, positions_skip_padding=True)


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
  values = bert.encoder_config_json(config) | {
    "model_type": "roberta",
    "max_position_embeddings": config.max_length + as_written(config).position_offset,
  }
  if bert.has_labels(config):
    labels = bert.labels_json(config)
    return values | labels | {"architectures": ["RobertaForSequenceClassification"]}
  return values | {
    "architectures": ["RobertaForMaskedLM" if config.head_transform else "RobertaModel"]
  }


def rules(config: TransformerConfig) -> Iterator[TensorRule]:
  unused = config.position_offset - as_written(config).position_offset
  yield from bert.encoder_rules(config, BASE_PREFIX, skip=unused)
  if config.head_transform:
    yield from dense("head/transform", "lm_head.dense", "O D -> D O", True)
    yield from norm("head/transform_norm", "lm_head.layer_norm", True, factor=logit_factor(config))
  if config.head_bias:
    yield TensorRule("head/bias", _BIASES[not config.tie_embeddings], "V -> V")
  if not config.tie_embeddings:
    yield TensorRule("head/kernel", HEAD, "V D -> D V")
  if bert.has_labels(config):
    yield from dense("pooler/dense", "classifier.dense", "O D -> D O", True)
    yield from dense("pooler/classes", "classifier.out_proj", "C D -> D C", True)


def aliases(config: TransformerConfig) -> dict[str, str]:
  return {_BIASES[1]: _BIASES[0], HEAD: EMBEDDING} if config.tie_embeddings else {}


def copies(config: TransformerConfig) -> dict[str, str]:
  """Returns the second bias of the head, which files of untied models hold."""
  return {_BIASES[0]: _BIASES[1]} if config.head_bias and not config.tie_embeddings else {}
