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
  modernbert,
  roberta,
  t5,
)

# By the model_type of config.json.
FAMILIES: dict[str, ModuleType] = {
  "t5": t5,
  "mt5": t5,
  "bart": bart,
  "bert": bert,
  "roberta": roberta,
  "albert": albert,
  "modernbert": modernbert,
  "gpt2": gpt2,
  "llama": llama,
  "qwen3": llama,
}


def family_of(config_json: ConfigJson) -> ModuleType:
  """The family by model_type.

  Raises:
    UserError: it is none of those known.
  """
  kind = config_json.model_type
  if not isinstance(kind, str) or kind not in FAMILIES:
    raise config_json.refusal("model_type", kind, FAMILIES)
  return FAMILIES[kind]


def keys_of(config_json: ConfigJson) -> type[ConfigKeys]:
  """The class of the keys that models of this type have."""
  return family_of(config_json).KEYS[config_json.model_type]
