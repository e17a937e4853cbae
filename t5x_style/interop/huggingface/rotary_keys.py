"""The keys of rotary positions in a config.json, as transformers 4 and 5 write them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from t5x_style.errors import UserError
from t5x_style.interop.huggingface.config_json import ConfigJson, cycle
from t5x_style.interop.huggingface.config_keys import ConfigKeys, Count, Positive, absent
from t5x_style.models import RotaryScaling

FULL, LOCAL = "full_attention", "sliding_attention"


class RotaryKeys(ConfigKeys):
  """The keys of families with rotary positions.

  transformers 5 writes rope_parameters. transformers 4 wrote rope_theta, and rope_scaling for
  scaled positions. Both are read.
  """

  rope_parameters: dict[str, Any] | None = None
  rope_scaling: dict[str, Any] | None = None
  rope_theta: Positive = 10_000.0
  partial_rotary_factor: Annotated[float, Field(ge=1, le=1)] | None = None
  original_max_position_embeddings: Count = absent()  # wins over a table's


class _Plain(pydantic.BaseModel):
  """A table of positions that are not scaled; other keys in it have no effect."""

  model_config = pydantic.ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

  rope_theta: Positive
  partial_rotary_factor: Annotated[float, Field(ge=1, le=1)] | None = None


class _Llama3(_Plain):
  """A table of positions that are scaled as in Llama 3.1."""

  factor: Positive
  low_freq_factor: Positive
  high_freq_factor: Positive
  original_max_position_embeddings: Count


class _Linear(_Plain):
  """A table of positions that are interpolated (Chen et al. 2023)."""

  factor: Positive


class _Yarn(_Plain):
  """A table of positions that are scaled by YaRN (Peng et al. 2023)."""

  factor: Positive
  original_max_position_embeddings: Count
  beta_fast: Positive | None = None
  beta_slow: Positive | None = None
  attention_factor: Positive | None = None
  mscale: float | None = None
  mscale_all_dim: float | None = None
  truncate: Literal[True] = True


class _Kind(pydantic.BaseModel):
  rope_type: Literal["default"]


class _AnyKind(pydantic.BaseModel):
  rope_type: Literal["default", "linear", "llama3", "yarn"]


def layer_windows(
  config_json: ConfigJson, layers: int, kinds: Sequence[str], window: int | None
) -> tuple[int | None, ...]:
  """Returns the cycle of the layers' windows.

  Args:
    kinds: FULL or LOCAL for each layer.
    window: of the local ones.

  Raises:
    UserError: layer_types does not have one entry per layer.
  """
  if config_json.values.get("layer_types") is not None and len(kinds) != layers:
    raise UserError(
      f"{config_json.source}: layer_types has {len(kinds)} entries for the {layers} layers."
    )
  return cycle([window if kind == LOCAL else None for kind in kinds])


def rotary_fields(
  config_json: ConfigJson, keys: RotaryKeys, max_positions: int
) -> tuple[float, RotaryScaling | None]:
  """Returns the base and the scaling of positions that are the same in all layers.

  As in transformers 5, rope_scaling wins over rope_parameters, and the key rope_theta is the
  default of the table's.

  Args:
    max_positions: the default of original_max_position_embeddings, in tokens.
  """
  name = "rope_scaling" if keys.rope_scaling else "rope_parameters"
  table = keys.rope_scaling or keys.rope_parameters or {}
  for kind in (FULL, LOCAL):
    if kind in table:
      raise config_json.table(name, table).refusal(kind, table[kind], ["one table for all layers"])
  defaults = {"original_max_position_embeddings": max_positions, "rope_theta": keys.rope_theta}
  length = keys.original_max_position_embeddings
  override = {} if length is None else {"original_max_position_embeddings": length}
  return _read_table(config_json.table(name, defaults | table | override), scaled=True)


def rotary_fields_by_kind(config_json: ConfigJson, keys: RotaryKeys, defaults: Mapping[str, float]):
  """Returns {kind of layer: base} of positions that differ by kind, as ModernBERT's do.

  As in transformers 5, rope_scaling is added to the tables of both kinds.

  Args:
    defaults: {kind of layer: the base if its table has none}.
  """
  tables = keys.rope_parameters or {}
  foreign = {name: value for name, value in tables.items() if name not in (FULL, LOCAL)}
  for name, value in foreign.items():
    raise config_json.table("rope_parameters", tables).refusal(name, value, [FULL, LOCAL])
  bases = {}
  for kind in (FULL, LOCAL):
    table = tables.get(kind) or {}
    if not isinstance(table, dict):
      raise config_json.table("rope_parameters", tables).refusal(kind, table, ["a table"])
    table = {"rope_theta": defaults[kind]} | table | (keys.rope_scaling or {})
    bases[kind], _ = _read_table(config_json.table(f"rope_parameters.{kind}", table), scaled=False)
  return bases


def scaling_table(scaling: RotaryScaling | None) -> dict[str, Any] | None:
  """Returns the table rope_scaling of a config.json; None if the positions are not scaled."""
  if scaling is None:
    return None
  table: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
  if scaling.kind == "linear":
    return table
  table["original_max_position_embeddings"] = scaling.original_length
  if scaling.kind == "llama3":
    return table | {"low_freq_factor": scaling.low, "high_freq_factor": scaling.high}
  table |= {"beta_slow": scaling.low, "beta_fast": scaling.high}
  factor = scaling.attention_factor
  return table if factor is None else table | {"attention_factor": factor}


def _read_table(table: ConfigJson, scaled: bool) -> tuple[float, RotaryScaling | None]:
  """Returns the base and the scaling of a table; `scaled` says whether it may be scaled."""
  kind = table.values.setdefault("rope_type", table.values.get("type", "default"))
  table.parse(_AnyKind if scaled else _Kind)
  if kind == "default":
    return table.parse(_Plain).rope_theta, None
  if kind == "linear":
    linear = table.parse(_Linear)
    return linear.rope_theta, RotaryScaling(factor=float(linear.factor), kind="linear")
  return _read_yarn(table) if kind == "yarn" else _read_llama3(table)


def _read_llama3(table: ConfigJson) -> tuple[float, RotaryScaling]:
  found = table.parse(_Llama3)
  if found.high_freq_factor <= found.low_freq_factor:
    raise table.refusal(
      "high_freq_factor", found.high_freq_factor, [f"more than {found.low_freq_factor}"]
    )
  return found.rope_theta, RotaryScaling(
    factor=float(found.factor),
    low=float(found.low_freq_factor),
    high=float(found.high_freq_factor),
    original_length=found.original_max_position_embeddings,
  )


def _read_yarn(table: ConfigJson) -> tuple[float, RotaryScaling]:
  found = table.parse(_Yarn)
  low, high = found.beta_slow or 1.0, found.beta_fast or 32.0
  if high <= low:
    raise table.refusal("beta_fast", high, [f"more than {low}"])
  sharpened = found.attention_factor
  if sharpened is None and found.mscale and found.mscale_all_dim:  # DeepSeek's names.
    grown = 0.1 * math.log(max(found.factor, 1.0))
    sharpened = (grown * found.mscale + 1.0) / (grown * found.mscale_all_dim + 1.0)
  return found.rope_theta, RotaryScaling(
    factor=float(found.factor),
    low=float(low),
    high=float(high),
    original_length=found.original_max_position_embeddings,
    kind="yarn",
    attention_factor=sharpened,
  )
