"""From a TransformerConfig to a config.json that describes exactly the same model, or an error."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from t5x_style.errors import UserError, shortened
from t5x_style.interop.huggingface.config_json import ConfigJson
from t5x_style.interop.huggingface.correspondence import Correspondence
from t5x_style.interop.huggingface.family_registry import FAMILIES, family_of, keys_of
from t5x_style.interop.huggingface.tensor_rules import logit_factor
from t5x_style.models import TransformerConfig
from t5x_style.models.config_differences import differences


def choose_family(
  config: TransformerConfig, origin: ConfigJson | None = None, name: str | None = None
) -> tuple[Correspondence, dict[str, Any]]:
  """Finds a Hugging Face family that has exactly this model.

  Args:
    origin: the config.json of the imported model that training started from. Its family is tried
      first, and what it says besides the model, such as token ids, is kept.
    name: the only model_type to try; None tries all.

  Returns:
    The correspondence of parameters, and the values of the model's config.json.

  Raises:
    UserError: no family has this model; the nearest ones and what differs are named.
  """
  if name is not None and name not in FAMILIES:
    raise UserError(f"--family={name} is not known; known are {', '.join(FAMILIES)}.")
  first = [origin.model_type] if origin else []
  reasons: dict[str, list[str]] = {}
  for candidate in [name] if name else [*first, *FAMILIES]:
    family = FAMILIES[candidate]
    if family.ARCHITECTURE != config.architecture:  # The more reasons, the less near.
      reasons[candidate] = [f"{config.architecture}, not {family.ARCHITECTURE}"] * 99
      continue
    try:
      config_json = family.to_config_json(config)
      reasons[candidate] = _differences(config, family, config_json)
    except UserError as error:
      reasons[candidate] = [str(error)] * 20
      continue
    if not reasons[candidate]:
      config_json = _with_origin(config_json, config, family, origin)
      bare = _headless(config_json["architectures"])
      return Correspondence(config, family, bare), config_json
  raise _no_family(reasons, only=name)


def _no_family(reasons: Mapping[str, Sequence[str]], only: str | None) -> UserError:
  """Returns the error that no family has the model; it names the two nearest."""
  nearest = sorted(reasons, key=lambda candidate: len(reasons[candidate]))[:2]
  lines = [f"  {kind}: {'; '.join(shortened([*dict.fromkeys(reasons[kind])]))}" for kind in nearest]
  return UserError(
    "transformers has no such model, so it cannot be written. "
    f"{'What differs' if only else 'The nearest are'} (in this package, in transformers):\n"
    + "\n".join(lines)
  )


def _differences(
  config: TransformerConfig, family: ModuleType, config_json: Mapping[str, Any]
) -> list[str]:
  """Lists in what the model that would be read back from config.json differs from this one."""
  rules = list(family.rules(config))
  tensors = {rule.tensor: None for rule in rules}
  back = TransformerConfig(**family.from_config_json(ConfigJson(config_json), tensors))
  factors = {rule.factor for rule in rules} - {1.0}
  if logit_factor(config) in factors:  # The last norm holds it.
    config = dataclasses.replace(config, scale_logits=False, base_emb_dim=None)
  elif config.tied_logit_factor in factors:  # Of T5, which scales logits in transformers, too.
    config = dataclasses.replace(config, base_emb_dim=None)
  if hasattr(family, "as_written"):
    config = family.as_written(config)
  return differences(config, back)


def _token_ids(config: TransformerConfig) -> dict[str, Any]:
  """Returns this package's special ids: padding 0, EOS 1, a decoder's first input 0."""
  decoder_only = config.architecture == "decoder_only"
  ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 0 if decoder_only else None}
  if config.architecture == "encoder_decoder":
    ids |= {"decoder_start_token_id": 0, "forced_eos_token_id": None}
  if config.architecture == "encoder_only":
    ids |= {"cls_token_id": None, "sep_token_id": None}
  return ids


def _with_origin(
  new: dict[str, Any], config: TransformerConfig, family: ModuleType, origin: ConfigJson | None
) -> dict[str, Any]:
  """Completes a config.json by what the imported model's config.json says besides the model."""
  if origin is None or family_of(origin) is not family:
    return _token_ids(config) | new
  kept = dict(origin.values)
  classes = kept.get("architectures") or new["architectures"]
  named = new
  if kept["model_type"] != new["model_type"]:  # A family of two names, such as t5 and mt5.
    named = named | {"model_type": kept["model_type"], "architectures": classes}
  has_head = config.head_transform or config.head_bias or config.pooled_classes
  if _headless(classes) and config.tie_embeddings and not has_head:
    named = named | {"architectures": classes}
  if _describes(kept, config, family):
    return kept | {"architectures": named["architectures"]}
  if _describes(kept | named, config, family):
    return kept | named
  # Something that described the imported model is no longer true: nothing of the kind is kept.
  keys = keys_of(origin)
  described = keys.model_fields.keys() | keys.OTHER_NAMES.keys()
  return {name: value for name, value in kept.items() if name not in described} | new


def _describes(
  config_json: Mapping[str, Any], config: TransformerConfig, family: ModuleType
) -> bool:
  """Returns whether a config.json describes exactly this model."""
  try:
    return not _differences(config, family, config_json)
  except UserError:
    return False


def _headless(classes: Sequence[str]) -> bool:
  """Returns whether the transformers class is a model without a head, as BertModel is."""
  return not re.search("For|LMHead", classes[0])
