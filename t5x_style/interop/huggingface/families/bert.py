"""BERT (model_type bert): with heads for masked tokens and pairs, with labels, or with none."""

from __future__ import annotations

import dataclasses
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

ARCHITECTURE = "encoder_only"
CLASSES = ("BertForPreTraining", "BertForMaskedLM", "BertForSequenceClassification", "BertModel")
BASE_PREFIX = "bert."
HEAD_PREFIXES = ("cls.", "classifier.")
EMBEDDING, HEAD = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
BUFFERS = (r"bert\.embeddings\.position_ids",)
# A pooler without its classes, and a bias that untied models do not add.
UNUSED_TENSORS = {
  "bert.pooler.dense.weight": "D D",
  "bert.pooler.dense.bias": "D",
  "cls.predictions.bias": "V",
}

# The same bias where the table is tied; otherwise the model adds the decoder's.
_BIASES = "cls.predictions.bias", "cls.predictions.decoder.bias"
_TRANSFORM, _PAIRS = "cls.predictions.transform.dense.weight", "cls.seq_relationship.weight"
_LABELS = "classifier.weight"


class BertKeys(ConfigKeys):
  vocab_size: Count = 30522
  hidden_size: Count = 768
  num_hidden_layers: Count = 12
  num_attention_heads: Count = 12
  intermediate_size: Count = 3072
  hidden_act: Activation = "gelu"
  hidden_dropout_prob: Rate = 0.1
  attention_probs_dropout_prob: Rate = 0.1
  max_position_embeddings: Count = 512
  type_vocab_size: Count = 2
  initializer_range: Deviation = 0.02
  layer_norm_eps: Epsilon = 1e-12
  pad_token_id: int | None = 0
  is_decoder: Literal[False] = False
  is_encoder_decoder: Literal[False] = False
  add_cross_attention: Literal[False] = False
  tie_word_embeddings: bool = True
  # A key of transformers 4: 5 ignores it and computes another model.
  position_embedding_type: Literal["absolute"] = "absolute"


KEYS: dict[str, type[ConfigKeys]] = {"bert": BertKeys}


def from_config_json(config_json: ConfigJson, tensors: Mapping[str, Any]) -> dict[str, Any]:
  masked, pairs = _TRANSFORM in tensors, _PAIRS in tensors
  fields = encoder_fields(config_json, config_json.parse(BertKeys)) | {
    "head_transform": masked,
    "head_bias": masked,
    "pooled_classes": 2 if pairs else 0,
  }
  return fields | (label_fields(config_json) if _LABELS in tensors else {})


def as_written(config: TransformerConfig) -> TransformerConfig:
  """Returns the model that is read back: a head for words that is not written scales nothing."""
  return config if config.head_transform else dataclasses.replace(config, base_emb_dim=None)


def to_config_json(config: TransformerConfig) -> dict[str, Any]:
  values = encoder_config_json(config) | {"model_type": "bert"}
  if has_labels(config):
    return values | labels_json(config) | {"architectures": ["BertForSequenceClassification"]}
  if config.pooled_classes:
    architecture = "BertForPreTraining"
  else:
    architecture = "BertForMaskedLM" if config.head_transform else "BertModel"
  return values | {"architectures": [architecture]}


def has_labels(config: TransformerConfig) -> bool:
  """Returns whether the classes of the head are labels of texts, and not those of pairs."""
  return bool(config.pooled_classes) and not config.head_transform


def label_fields(config_json: ConfigJson) -> dict[str, Any]:
  """Returns the fields of a model with the head of ForSequenceClassification."""
  # transformers has two labels if config.json names none.
  return {
    "pooled_classes": len(config_json.values.get("id2label") or "01"),
    "tie_embeddings": True,
  }


def labels_json(config: TransformerConfig) -> dict[str, Any]:
  """Returns the labels of a config.json, by the names that transformers gives to unnamed ones."""
  names = [f"LABEL_{i}" for i in range(config.pooled_classes)]
  return named_labels(names)


def named_labels(names: Sequence[str]) -> dict[str, Any]:
  """Returns the values of a config.json that name the labels of the classes 0, 1, 2 ..."""
  return {
    "id2label": {str(i): name for i, name in enumerate(names)},
    "label2id": {name: i for i, name in enumerate(names)},
  }


def encoder_fields(config_json: ConfigJson, keys: BertKeys) -> dict[str, Any]:
  """Returns the fields of a TransformerConfig that BERT, RoBERTa and ALBERT have in common."""
  return {
    "vocab_size": keys.vocab_size,
    "emb_dim": keys.hidden_size,
    "num_heads": keys.num_attention_heads,
    "head_dim": head_width(config_json, keys.hidden_size, keys.num_attention_heads),
    "mlp_dim": keys.intermediate_size,
    "num_encoder_layers": keys.num_hidden_layers,
    "mlp_activations": (ACTIVATIONS[keys.hidden_act],),
    "norm": "layer",
    "norm_position": "post",
    "norm_epsilon": keys.layer_norm_eps,
    "use_bias": True,
    "dropout_rate": keys.hidden_dropout_prob,
    "dropout_places": "bert",
    "attention_dropout_rate": keys.attention_probs_dropout_prob,
    "positions": "learned",
    "max_length": keys.max_position_embeddings,
    "padding_id": NO_PADDING if keys.pad_token_id is None else keys.pad_token_id,
    "num_token_types": keys.type_vocab_size,
    "embedding_norm": True,
    "tie_embeddings": keys.tie_word_embeddings,
    "scale_logits": False,
    "kernel_init_std": keys.initializer_range,
    "embedding_init_std": keys.initializer_range,
  }


def encoder_config_json(config: TransformerConfig) -> dict[str, Any]:
  """Returns the values of a config.json that `encoder_fields` reads."""
  return {
    "vocab_size": config.vocab_size,
    "hidden_size": config.emb_dim,
    "num_attention_heads": config.num_heads,
    "intermediate_size": config.mlp_dim,
    "num_hidden_layers": config.num_encoder_layers,
    "hidden_act": activation_name(config.mlp_activations[0]),
    "layer_norm_eps": config.norm_epsilon,
    "hidden_dropout_prob": config.dropout_rate,
    "attention_probs_dropout_prob": config.attention_dropout_rate,
    "max_position_embeddings": config.max_length,
    "pad_token_id": None if config.padding_id == NO_PADDING else config.padding_id,
    "type_vocab_size": config.num_token_types,
    "tie_word_embeddings": config.tie_embeddings,
  }


def rules(config: TransformerConfig) -> Iterator[TensorRule]:
  yield from encoder_rules(config, "bert.")
  if config.head_transform:
    yield from dense("head/transform", "cls.predictions.transform.dense", "O D -> D O", True)
    yield from norm(
      "head/transform_norm",
      "cls.predictions.transform.LayerNorm",
      True,
      factor=logit_factor(config),
    )
  if config.head_bias:
    yield TensorRule("head/bias", _BIASES[not config.tie_embeddings], "V -> V")
  if not config.tie_embeddings:
    yield TensorRule("head/kernel", HEAD, "V D -> D V")
  if config.pooled_classes:
    classes = "classifier" if has_labels(config) else "cls.seq_relationship"
    yield from dense("pooler/dense", "bert.pooler.dense", "O D -> D O", True)
    yield from dense("pooler/classes", classes, "C D -> D C", True)


def aliases(config: TransformerConfig) -> dict[str, str]:
  return {_BIASES[1]: _BIASES[0], HEAD: EMBEDDING} if config.tie_embeddings else {}


def copies(config: TransformerConfig) -> dict[str, str]:
  """Returns the second bias of the head, which files of untied models hold."""
  return {_BIASES[0]: _BIASES[1]} if config.head_bias and not config.tie_embeddings else {}


def embedding_rules(base: str, skip: int = 0) -> Iterator[TensorRule]:
  """Yields the rules of the tables (positions without the first `skip`) and of their norm."""
  yield TensorRule(
    "token_embed/embedding", f"{base}embeddings.word_embeddings.weight", "V E -> V E"
  )
  positions = f"{base}embeddings.position_embeddings.weight"
  yield TensorRule("position_embed/embedding", positions, "M E -> M E", skip=skip)
  types = f"{base}embeddings.token_type_embeddings.weight"
  yield TensorRule("type_embed/embedding", types, "T E -> T E")
  yield from norm("embed_norm", f"{base}embeddings.LayerNorm", True, "E")


def encoder_rules(config: TransformerConfig, base: str, skip: int = 0) -> Iterator[TensorRule]:
  """Yields the rules of the embeddings and of the layers, as in BERT and RoBERTa."""
  yield from embedding_rules(base, skip)
  for i in range(config.num_encoder_layers):
    yield from in_layer("encoder", i, f"{base}encoder.layer.{i}.", _layer())


def _layer() -> Iterator[TensorRule]:
  for name in ("query", "key", "value"):
    yield from dense(f"self_attention/{name}", f"attention.self.{name}", "(N H) D -> D N H", True)
  yield from dense("self_attention/out", "attention.output.dense", "D (N H) -> N H D", True)
  yield from norm("self_attention_norm", "attention.output.LayerNorm", True)
  yield from dense("mlp/wi", "intermediate.dense", "F D -> D F", True)
  yield from dense("mlp/wo", "output.dense", "D F -> F D", True)
  yield from norm("mlp_norm", "output.LayerNorm", True)
