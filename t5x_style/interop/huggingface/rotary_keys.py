"""The keys of rotary positions in a config.json, as transformers 4 and 5 write them."""

from __future__ import annotations

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


class _Kind(pydantic.BaseModel):
  rope_type: Literal["default"]


class _KindOrLlama3(pydantic.BaseModel):
  rope_type: Literal["default", "llama3"]


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
  return _read_table(config_json.table(name, defaults | table | override), llama3=True)


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
    bases[kind], _ = _read_table(config_json.table(f"rope_parameters.{kind}", table), llama3=False)
  return bases


def _read_table(table: ConfigJson, llama3: bool) -> tuple[float, RotaryScaling | None]:
  """Returns the base and the scaling of a table; `llama3` says whether it may be scaled."""
  kind = table.values.setdefault("rope_type", table.values.get("type", "default"))
  table.parse(_KindOrLlama3 if llama3 else _Kind)
  if kind == "default":
    return table.parse(_Plain).rope_theta, None
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
