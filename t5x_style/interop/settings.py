"""config.json of a Hugging Face model: read with care, what cannot be expressed refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from t5x_style.errors import UserError
from t5x_style.models import RotaryScaling

_REQUIRED = object()

# Theirs to ours; several spellings of theirs are one function.
ACTIVATIONS = {
  "gelu": "gelu_exact",
  "gelu_python": "gelu_exact",
  "gelu_new": "gelu",
  "gelu_fast": "gelu",
  "gelu_pytorch_tanh": "gelu",
  "relu": "relu",
  "silu": "silu",
  "swish": "silu",
}
# What has to be a positive whole number, and what a number, in the words of all families.
_COUNTS = frozenset(
  ("vocab_size", "hidden_size", "d_model", "n_embd", "head_dim", "d_kv", "embedding_size")
  + ("intermediate_size", "d_ff", "n_inner", "encoder_ffn_dim", "decoder_ffn_dim")
  + ("num_attention_heads", "num_key_value_heads", "num_heads", "n_head")
  + ("encoder_attention_heads", "decoder_attention_heads", "encoder_layers", "decoder_layers")
  + ("num_hidden_layers", "num_layers", "num_decoder_layers", "n_layer", "inner_group_num")
  + ("max_position_embeddings", "n_positions", "sliding_window", "local_attention")
  + ("relative_attention_num_buckets", "relative_attention_max_distance")
  + ("global_attn_every_n_layers", "original_max_position_embeddings")
)
_NUMBERS = frozenset(
  ("layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps", "norm_eps", "pad_token_id")
  + ("hidden_dropout_prob", "dropout", "dropout_rate", "resid_pdrop", "mlp_dropout")
  + ("initializer_range", "init_std", "type_vocab_size", "max_window_layers", "rope_theta")
  + ("global_rope_theta", "local_rope_theta", "factor", "low_freq_factor", "high_freq_factor")
)
_THEIRS = {"gelu_exact": "gelu", "gelu": "gelu_new", "relu": "relu", "silu": "silu"}


class Settings:
  """The values of a config.json, with errors that name the file, the value and what is possible."""

  def __init__(self, values: Mapping[str, Any], source: str = "config.json"):
    self.values = dict(values)
    self.source = source

  @classmethod
  def read(cls, folder: str | Path) -> Settings:
    """Those of a model's folder.

    Raises:
      UserError: there is no config.json, or it is not one.
    """
    folder = Path(os.path.expanduser(folder))
    if not folder.is_dir():
      what = "is a file" if folder.exists() else "does not exist"
      raise UserError(
        f"{str(folder)!r} {what}; give the folder that holds config.json and model.safetensors. "
        "Models are not fetched: download the folder first."
      )
    file = folder / "config.json"
    if not file.is_file():
      raise UserError(f"{str(folder)!r} holds no config.json, so it is no model's folder.")
    try:
      values = json.loads(file.read_text())
      if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    except (ValueError, RecursionError) as error:
      raise UserError(f"{str(file)!r} cannot be read: {error}.") from None
    classes = values.get("architectures") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
      raise UserError(f"{str(file)!r}: architectures = {classes!r} has to be a list of names.")
    return cls(values, str(file))

  def get(self, name: str, default: Any = _REQUIRED) -> Any:
    """The value; the default where it is absent or null."""
    value = self.values.get(name)
    if value is not None:
      self._check_number(name, value)
      return value
    if default is _REQUIRED:
      raise UserError(f"{self.source} says nothing about {name!r}, which this kind of model needs.")
    return default

  def _check_number(self, name: str, value: Any) -> None:
    count, number = name in _COUNTS, name in _NUMBERS
    kinds = int if count else (int, float)
    right = isinstance(value, kinds) and not isinstance(value, bool) and (number or value > 0)
    if (count or number) and not right:
      what = "a positive whole number" if count else "a number"
      raise UserError(f"{self.source}: {name} = {value!r} has to be {what}.")

  def only(self, name: str, *supported: Any) -> Any:
    """The value, which must be one of `supported`; the first of them where it is absent."""
    value = self.get(name, supported[0])
    if value not in supported:
      raise self.refusal(name, value, supported)
    return value

  def activation(self, name: str, default: str) -> str:
    """Our name of an activation."""
    value = self.get(name, default)
    if not isinstance(value, str) or value not in ACTIVATIONS:
      raise self.refusal(name, value, ACTIVATIONS)
    return ACTIVATIONS[value]

  def refusal(self, name: str, value: Any, supported: Iterable[Any]) -> UserError:
    return UserError(
      f"{self.source}: {name} = {value!r} cannot be expressed by this package's models; supported "
      f"is {' or '.join(map(repr, supported))}."
    )

  def rotary(self, kind: str | None = None) -> dict[str, Any]:
    """Settings of the rotary positions, in the one form of all spellings.

    transformers 5 writes rope_parameters, with an entry for each kind of layer where they differ;
    4 wrote rope_scaling, with rope_theta or names of its own beside it.

    Args:
      kind: "full_attention" or "sliding_attention" where layers differ.
    """
    parameters = self._table(self.get("rope_parameters", {}), "rope_parameters")
    of_kind = parameters.get(kind) or {} if kind in parameters else parameters
    found = self._table(self.get("rope_scaling", {}), "rope_scaling")
    found |= self._table(of_kind, f"rope_parameters.{kind}")
    found.setdefault("rope_type", found.get("type", "default"))
    for place, factor in (
      ("partial_rotary_factor", self.get("partial_rotary_factor", 1.0)),
      ("rope_parameters.partial_rotary_factor", found.get("partial_rotary_factor", 1.0)),
    ):
      if factor != 1.0:
        raise self.refusal(place, factor, [1.0])
    return found

  def _table(self, value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
      raise UserError(f"{self.source}: {name} = {value!r} has to be a table of names and values.")
    return dict(value)

  def rotary_base(
    self, kind: str | None = None, name: str = "rope_theta", default: float = 10_000.0
  ) -> float:
    """The base of the rotary positions; `name` is that of files of transformers 4."""
    there = Settings(self.rotary(kind), self.source).get("rope_theta", self.get(name, default))
    return float(there)

  def rotary_scaling(self, *supported: str, kind: str | None = None) -> RotaryScaling | None:
    """How rotary positions are stretched; its kind must be "default" or one of `supported`."""
    found = Settings(self.rotary(kind), self.source)
    form = found.get("rope_type")
    if form not in ("default", *supported):
      raise self.refusal("rope_type", form, ("default", *supported))
    if form == "default":
      return None
    return RotaryScaling(
      factor=float(found.get("factor")),
      low=float(found.get("low_freq_factor")),
      high=float(found.get("high_freq_factor")),
      original_length=found.get("original_max_position_embeddings"),
    )


def cycle(layers: Sequence[Any]) -> tuple[Any, ...]:
  """The shortest cycle that gives the layers when it is repeated."""
  for period in range(1, len(layers)):
    if all(layer == layers[i % period] for i, layer in enumerate(layers)):
      return tuple(layers[:period])
  return tuple(layers)


def their_activation(ours: str) -> str:
  """The spelling of an activation in a config.json.

  Raises:
    UserError: they have none.
  """
  if ours not in _THEIRS:
    raise UserError(f"mlp_activations names {ours!r}, for which transformers has no word.")
  return _THEIRS[ours]
