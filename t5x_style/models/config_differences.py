"""The settings in which two models compute something different."""

from __future__ import annotations

import dataclasses
from typing import Any

from t5x_style.models import TransformerConfig
from t5x_style.models.config import fields_about

# Fields that have an effect with one kind of positions only.
_ONLY_WITH = {
  "learned": ("max_length", "position_offset", "positions_skip_padding"),
  "relative": ("relative_buckets", "relative_max_distance"),
  "rotary": ("rotary_base", "rotary_scaling", "rotary_base_local"),
}


def differences(a: TransformerConfig, b: TransformerConfig) -> list[str]:
  """Lists the fields that make two trained models compute different things.

  ["norm_epsilon = 1e-05, not 1e-12"] if `a` has 1e-5 and `b` has 1e-12.
  """
  of_a, of_b = _effective_fields(a), _effective_fields(b)
  return [
    f"{name} = {of_a[name]!r}, not {of_b[name]!r}" for name in of_a if of_a[name] != of_b[name]
  ]


def _effective_fields(config: TransformerConfig) -> dict[str, Any]:
  """Returns the fields that change what a model computes; fields without effect are None."""
  free = fields_about("training", "numerics", "compilation")
  values = {name: x for name, x in dataclasses.asdict(config).items() if name not in free}
  values["num_kv_heads"] = config.kv_heads
  if config.experts is not None:
    values["experts"] = config.experts.as_computed(config.mlp_dim)
    if config.experts.every == 1:  # No layer is dense.
      values["mlp_dim"] = None
  for kind, names in _ONLY_WITH.items():
    if config.positions != kind:
      values |= dict.fromkeys(names)
  scaling = values["rotary_scaling"]
  if scaling and scaling["kind"] == "linear":  # It uses nothing else.
    values["rotary_scaling"] = {name: scaling[name] for name in ("kind", "factor")}
  if not config.tie_embeddings:
    values["scale_logits"] = None
  if config.tied_logit_factor == 1:
    values["base_emb_dim"] = None
  if not config.num_encoder_layers:
    values["padding_id"] = None
  if not any(config.attention_windows):
    values["rotary_base_local"] = None
  values["factorized_dim"] = config.table_dim
  return values
