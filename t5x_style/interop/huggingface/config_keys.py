"""The keys of a config.json: a closed list for each family, with types that pydantic checks.

Every key that transformers reads is a field of the family's class, unless it does not change what a
trained model computes: one test records the keys that transformers reads, another changes each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Epsilon = Annotated[float, Field(ge=0)]
Deviation = Annotated[float, Field(ge=0)]  # of initial values
Rate = Annotated[float, Field(ge=0, lt=1)]  # of dropout
Window = Annotated[int, Field(ge=2)]
Activation = Literal[
  "gelu",
  "gelu_python",
  "gelu_new",
  "gelu_fast",
  "gelu_pytorch_tanh",
  "relu",
  "relu2",
  "silu",
  "swish",
]


NO_PADDING = -1  # `padding_id` of a model whose pad_token_id is null


def never(advice: str) -> Any:
  """Declares a key that has to be absent or null, with advice for files where it is not."""
  return Field(default=None, description=advice)


def absent() -> Any:
  """Declares a key that transformers derives from others if it is absent; it cannot be null."""
  return Field(default=None)


_COMPOSITE = "the model consists of several models, and only a single one can be converted"


class ConfigKeys(pydantic.BaseModel):
  """The keys of one family's config.json, with transformers' defaults.

  The type of a field allows what TransformerConfig can express; other values are refused. Null is
  refused where transformers refuses it. Keys without a field are ignored, as in transformers.
  """

  model_config = pydantic.ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

  # {another name that transformers accepts: the key}.
  OTHER_NAMES: ClassVar[Mapping[str, str]] = {}

  quantization_config: None = never(
    "the weights are quantised; load the model with transformers, call its dequantize(), save it, "
    "and convert that"
  )
  per_layer_config: None = never("layers that differ are not supported")
  fusion_config: None = never("the modules of the model are exchanged for others")
  transformers_weights: None = never(
    "the weights are in another file: rename it to model.safetensors and remove the key"
  )
  pruned_heads: Annotated[dict[str, Any], Field(max_length=0)] | None = None
  text_config: None = never(_COMPOSITE)
  decoder: None = never(_COMPOSITE)
  generator: None = never(_COMPOSITE)


class DecoderKeys(ConfigKeys):
  """The keys of all families with a decoder."""

  is_causal: Literal[True] = True
  attention_chunk_size: None = never("attention in chunks is not supported")
  kv_sharing_modes: None = never("layers that share keys and values are not supported")


class FullAttentionKeys(DecoderKeys):
  """The keys of families with a decoder whose attention has no windows in transformers.

  The forward pass of transformers ignores these keys, but its cache obeys them, so that generation
  would compute another model than training did.
  """

  sliding_window: None = never(
    "transformers has no windows in models of this type, but its cache obeys the key: remove it"
  )
  layer_types: list[Literal["full_attention"]] | None = None
