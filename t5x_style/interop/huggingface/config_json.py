"""config.json of a Hugging Face model: read with care, what cannot be expressed refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from t5x_style.errors import UserError
from t5x_style.interop.huggingface.config_keys import Activation, ConfigKeys

Form = TypeVar("Form", bound=pydantic.BaseModel)

# Theirs to ours; several spellings of theirs are one function.
ACTIVATIONS: dict[Activation, str] = {
  "gelu": "gelu_exact",
  "gelu_python": "gelu_exact",
  "gelu_new": "gelu",
  "gelu_fast": "gelu",
  "gelu_pytorch_tanh": "gelu",
  "relu": "relu",
  "silu": "silu",
  "swish": "silu",
}
_THEIRS = {"gelu_exact": "gelu", "gelu": "gelu_new", "relu": "relu", "silu": "silu"}


class ConfigJson:
  """The values of a config.json, with errors that name the file, the value and what is possible.

  Attributes:
    values: as they are in the file.
    source: the file.
    inside: the name of the table that these values are, followed by a dot.
  """

  def __init__(self, values: Mapping[str, Any], source: str = "config.json", inside: str = ""):
    self.values = dict(values)
    self.source = source
    self.inside = inside

  @classmethod
  def read(cls, folder: str | Path) -> ConfigJson:
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

  @property
  def model_type(self) -> Any:
    return self.values.get("model_type")

  @property
  def architectures(self) -> list[str]:
    """The names of transformers' classes that the weights are for, where the file says it."""
    return self.values.get("architectures") or []

  def parse(self, form: type[Form]) -> Form:
    """The values by a class of keys.

    Raises:
      UserError: one of them is not supported, or is of a wrong type.
    """
    values = dict(self.values)
    other_names = form.OTHER_NAMES if issubclass(form, ConfigKeys) else {}
    for name, own in other_names.items():
      if name in values:
        value = values.pop(name)
        if values.setdefault(own, value) != value:
          raise UserError(
            f"{self.source}: {name} = {value!r} and {own} = {values[own]!r} are two names of one "
            "thing for transformers; remove the wrong one."
          )
    try:
      return form.model_validate(values)
    except pydantic.ValidationError as error:
      raise self._mistake(form, error.errors()[0]) from None

  def _mistake(self, form: type[pydantic.BaseModel], mistake: Any) -> UserError:
    field, *index = mistake["loc"]
    name = f"{field}{''.join(f'[{i}]' for i in index)}"
    if mistake["type"] == "missing":
      return UserError(f"{self.source} says nothing about {self.inside}{name}, which is needed.")
    value = mistake["input"]
    if mistake["type"] == "literal_error":
      return self.refusal(name, value, [mistake["ctx"]["expected"]], quoted=True)
    advice = form.model_fields[field].description
    reason = f": {advice}" if advice else mistake["msg"].replace("Input should", " has to", 1)
    return UserError(f"{self.source}: {self.inside}{name} = {value!r}{reason}.")

  def refusal(
    self, name: str, value: Any, supported: Iterable[Any], quoted: bool = False
  ) -> UserError:
    """The error that a value cannot be expressed.

    Args:
      quoted: `supported` are texts as they are to be shown.
    """
    words = supported if quoted else map(repr, supported)
    return UserError(
      f"{self.source}: {self.inside}{name} = {value!r} cannot be expressed by this package's "
      f"models; supported is {' or '.join(words)}."
    )

  def table(self, name: str, values: Mapping[str, Any]) -> ConfigJson:
    """Values inside of these, such as those of rope_parameters."""
    return ConfigJson(values, self.source, f"{self.inside}{name}.")

  def defaulted_sizes(self, form: type[ConfigKeys]) -> list[str]:
    """Sizes that the file is silent about, with transformers' defaults: "d_model = 512"."""
    other = {own: name for name, own in form.OTHER_NAMES.items()}
    return [
      f"{name} = {field.default}"
      for name, field in form.model_fields.items()
      if type(field.default) is int
      and name not in self.values
      and other.get(name) not in self.values
    ]


def head_width(config_json: ConfigJson, width: int, heads: int) -> int:
  """The width of a head where it is not said.

  Raises:
    UserError: the width of the model does not divide by the number of heads.
  """
  if width % heads:
    raise UserError(
      f"{config_json.source}: the width of the model, {width}, has to divide by its {heads} "
      "attention heads."
    )
  return width // heads


def cycle(layers: Sequence[Any]) -> tuple[Any, ...]:
  """The shortest cycle that gives the layers when it is repeated."""
  for period in range(1, len(layers)):
    if all(layer == layers[i % period] for i, layer in enumerate(layers)):
      return tuple(layers[:period])
  return tuple(layers)


def activation_name(ours: str) -> str:
  """The spelling of an activation in a config.json.

  Raises:
    UserError: they have none.
  """
  if ours not in _THEIRS:
    raise UserError(f"mlp_activations names {ours!r}, for which transformers has no word.")
  return _THEIRS[ours]
