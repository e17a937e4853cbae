"""The families of Hugging Face models that can be converted, by the model_type of config.json."""

from __future__ import annotations

from types import ModuleType

from t5x_style.interop.huggingface.config_json import ConfigJson
from t5x_style.interop.huggingface.config_keys import ConfigKeys
from t5x_style.interop.huggingface.families import (
  albert,
  bart,
  bert,
  gpt2,
  llama,
  mixtral,
  modernbert,
  qwen3_moe,
  roberta,
  switch,
  t5,
)

# By the model_type of config.json.
FAMILIES: dict[str, ModuleType] = {
  "t5": t5,
  "mt5": t5,
  "switch_transformers": switch,
  "bart": bart,
  "bert": bert,
  "roberta": roberta,
  "albert": albert,
  "modernbert": modernbert,
  "gpt2": gpt2,
  "llama": llama,
  "qwen3": llama,
  "mixtral": mixtral,
  "qwen3_moe": qwen3_moe,
}


def family_of(config_json: ConfigJson) -> ModuleType:
  """Returns the family of a config.json, by its model_type.

  Raises:
    UserError: no family has this model_type.
  """
  kind = config_json.model_type
  if not isinstance(kind, str) or kind not in FAMILIES:
    raise config_json.refusal("model_type", kind, FAMILIES)
  return FAMILIES[kind]


def keys_of(config_json: ConfigJson) -> type[ConfigKeys]:
  """Returns the class that declares the keys of a config.json of this model_type."""
  return family_of(config_json).KEYS[config_json.model_type]
