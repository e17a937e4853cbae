"""Reads and checks config.json; what TransformerConfig cannot express is refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from t5x_style.errors import UserError
from t5x_style.interop.huggingface.config_keys import Activation, ConfigKeys

KeysClass = TypeVar("KeysClass", bound=pydantic.BaseModel)

# {transformers' name of an activation: this package's name}. Transformers has several for some: the
# first is written.
ACTIVATIONS: dict[Activation, str] = {
  "gelu": "gelu_exact",
  "gelu_python": "gelu_exact",
  "gelu_new": "gelu",
  "gelu_fast": "gelu",
  "gelu_pytorch_tanh": "gelu",
  "relu": "relu",
  "relu2": "squared_relu",
  "silu": "silu",
  "swish": "silu",
}
_WRITTEN = {own: name for name, own in reversed(ACTIVATIONS.items())}


class ConfigJson:
  """The values of a config.json. Its errors name the file, the value and what is supported.

  Attributes:
    values: as they are in the file.
    source: the file, for messages.
    prefix: "rope_scaling." if these are the values of the table rope_scaling, else "".
  """

  def __init__(self, values: Mapping[str, Any], source: str = "config.json", prefix: str = ""):
    self.values = dict(values)
    self.source = source
    self.prefix = prefix

  @classmethod
  def read(cls, folder: str | Path) -> ConfigJson:
    """Reads the config.json of a model's folder.

    Raises:
      UserError: there is no config.json, or it is damaged.
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
      raise UserError(f"{str(folder)!r} holds no config.json, so it is not the folder of a model.")
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

  @property
  def model_type(self) -> Any:
    return self.values.get("model_type")

  @property
  def architectures(self) -> list[str]:
    """The transformers classes that the weights are for; empty if the file names none."""
    return self.values.get("architectures") or []

  def parse(self, keys_class: type[KeysClass]) -> KeysClass:
    """Returns the values as an instance of a class that declares keys.

    Raises:
      UserError: a value is not supported, or has the wrong type.
    """
    values = dict(self.values)
    other_names = keys_class.OTHER_NAMES if issubclass(keys_class, ConfigKeys) else {}
    for name, own in other_names.items():
      if name in values:
        value = values.pop(name)
        if values.setdefault(own, value) != value:
          raise UserError(
            f"{self.source}: {name} = {value!r} and {own} = {values[own]!r} are two names of one "
            "thing for transformers; remove the wrong one."
          )
    try:
      return keys_class.model_validate(values)
    except pydantic.ValidationError as error:
      raise self._user_error(keys_class, error.errors()[0]) from None

  def _user_error(self, keys_class: type[pydantic.BaseModel], mistake: Any) -> UserError:
    field, *index = mistake["loc"]
    name = f"{field}{''.join(f'[{i}]' for i in index)}"
    if mistake["type"] == "missing":
      return UserError(f"{self.source} says nothing about {self.prefix}{name}, which is needed.")
    value = mistake["input"]
    if mistake["type"] == "literal_error":
      return self.refusal(name, value, [mistake["ctx"]["expected"]], quoted=True)
    advice = keys_class.model_fields[field].description
    reason = f": {advice}" if advice else mistake["msg"].replace("Input should", " has to", 1)
    return UserError(f"{self.source}: {self.prefix}{name} = {value!r}{reason}.")

  def refusal(
    self, name: str, value: Any, supported: Iterable[Any], quoted: bool = False
  ) -> UserError:
    """Returns the error for a value that TransformerConfig cannot express.

    Args:
      supported: the values that it can express.
      quoted: whether `supported` holds texts to be shown as they are.
    """
    words = supported if quoted else map(repr, supported)
    return UserError(
      f"{self.source}: {self.prefix}{name} = {value!r} cannot be expressed by this package's "
      f"models; supported is {' or '.join(words)}."
    )

  def table(self, name: str, values: Mapping[str, Any]) -> ConfigJson:
    """Returns the values of a table of the file, such as rope_parameters."""
    return ConfigJson(values, self.source, f"{self.prefix}{name}.")

  def defaulted_sizes(self, keys_class: type[ConfigKeys]) -> list[str]:
    """Lists the sizes that the file leaves out, with transformers' defaults: "d_model = 512"."""
    other = {own: name for name, own in keys_class.OTHER_NAMES.items()}
    return [
      f"{name} = {field.default}"
      for name, field in keys_class.model_fields.items()
      if type(field.default) is int
      and name not in self.values
      and other.get(name) not in self.values
    ]


def head_width(config_json: ConfigJson, width: int, heads: int) -> int:
  """Returns the width of an attention head in families whose config.json does not set it.

  Raises:
    UserError: the width of the model is not a multiple of the number of heads.
  """
  if width % heads:
    raise UserError(
      f"{config_json.source}: the width of the model, {width}, has to be a multiple of its {heads} "
      "attention heads."
    )
  return width // heads


def cycle(layers: Sequence[Any]) -> tuple[Any, ...]:
  """Returns the shortest cycle that gives `layers` when it is repeated."""
  for period in range(1, len(layers)):
    if all(layer == layers[i % period] for i, layer in enumerate(layers)):
      return tuple(layers[:period])
  return tuple(layers)


def activation_name(activation: str) -> str:
  """Returns the name that transformers has for an activation.

  Raises:
    UserError: transformers has none.
  """
  if activation not in _WRITTEN:
    raise UserError(
      f"mlp_activations names {activation!r}, for which ACTIVATIONS of "
      "t5x_style/interop/huggingface/config_json.py has no name of transformers."
    )
  return _WRITTEN[activation]
