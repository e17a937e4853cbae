"""From a TransformerConfig to a config.json that means the very same model, or a refusal."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from t5x_style.errors import UserError, shortened
from t5x_style.interop.huggingface.config_differences import differences
from t5x_style.interop.huggingface.config_json import ConfigJson
from t5x_style.interop.huggingface.correspondence import Correspondence
from t5x_style.interop.huggingface.family_registry import FAMILIES, family_of, keys_of
from t5x_style.interop.huggingface.tensor_rules import logit_factor
from t5x_style.models import TransformerConfig


def choose_family(
  config: TransformerConfig, origin: ConfigJson | None = None, name: str | None = None
) -> tuple[Correspondence, dict[str, Any]]:
  """A family of theirs in which this model can be said exactly, and its config.json.

  Args:
    origin: the config.json of the model this one was trained on from; token ids and all that does
      not describe the model are kept, and of several families that fit it is the first choice.
    name: a model_type that is wanted instead.

  Raises:
    UserError: none fits; what would have to be otherwise.
  """
  if name is not None and name not in FAMILIES:
    raise UserError(f"--family={name} is not known; known are {', '.join(FAMILIES)}.")
  first = [origin.model_type] if origin else []
  reasons: dict[str, list[str]] = {}
  for candidate in [name] if name else [*first, *FAMILIES]:
    family = FAMILIES[candidate]
    if family.ARCHITECTURE != config.architecture:
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
  best = sorted(reasons, key=lambda candidate: len(reasons[candidate]))[:2]
  lines = [f"  {kind}: {'; '.join(shortened([*dict.fromkeys(reasons[kind])]))}" for kind in best]
  raise UserError(
    "transformers has no such model, so it cannot be written. "
    f"{'What differs' if name else 'The nearest are'} (ours, theirs):\n" + "\n".join(lines)
  )


def _differences(
  config: TransformerConfig, family: ModuleType, config_json: Mapping[str, Any]
) -> list[str]:
  """In what the model that is read back from the settings would be another one."""
  rules = list(family.rules(config))
  tensors = {rule.tensor: None for rule in rules}
  back = TransformerConfig(**family.from_config_json(ConfigJson(config_json), tensors))
  factor = logit_factor(config)
  if factor != 1 and any(rule.factor == factor for rule in rules):
    config = dataclasses.replace(config, scale_logits=False)  # They put it into the last norm.
  if hasattr(family, "as_written"):
    config = family.as_written(config)
  return differences(config, back)


def _ids(config: TransformerConfig) -> dict[str, Any]:
  """The special ids of a model of ours: padding is 0, EOS 1; a decoder is first given a 0."""
  decoder_only = config.architecture == "decoder_only"
  ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 0 if decoder_only else None}
  if config.architecture == "encoder_decoder":
    ids |= {"decoder_start_token_id": 0, "forced_eos_token_id": None}
  if config.architecture == "encoder_only":
    ids |= {"cls_token_id": None, "sep_token_id": None}
  return ids


def _with_origin(
  config_json: dict[str, Any],
  config: TransformerConfig,
  family: ModuleType,
  origin: ConfigJson | None,
) -> dict[str, Any]:
  if origin is None or family_of(origin) is not family:
    return _ids(config) | config_json
  kept, form = dict(origin.values), keys_of(origin)
  own = config_json
  classes = kept.get("architectures") or config_json["architectures"]
  if kept["model_type"] != config_json["model_type"]:  # A family of two names, as t5 and mt5.
    config_json = config_json | {"model_type": kept["model_type"], "architectures": classes}
  has_head = config.head_transform or config.head_bias or config.pooled_classes
  if _headless(classes) and config.tie_embeddings and not has_head:
    config_json = config_json | {"architectures": classes}
  if _means(kept, config, family):
    return kept | {"architectures": config_json["architectures"]}
  if _means(kept | config_json, config, family):
    return kept | config_json
  # Something that the model began with is true no more: nothing that describes a model is kept.
  described = form.model_fields.keys() | form.OTHER_NAMES.keys()
  return {name: value for name, value in kept.items() if name not in described} | own


def _means(config_json: Mapping[str, Any], config: TransformerConfig, family: ModuleType) -> bool:
  """Whether the settings are those of this very model."""
  try:
    return not _differences(config, family, config_json)
  except UserError:
    return False


def _headless(classes: Sequence[str]) -> bool:
  """Whether the class is the model without a head, as BertModel is."""
  return not re.search("For|LMHead", classes[0])
