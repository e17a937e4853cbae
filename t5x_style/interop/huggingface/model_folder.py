"""The folder of a Hugging Face model: opened, and checked to hold all of the model's tensors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from t5x_style.errors import UserError, shortened
from t5x_style.interop.huggingface.config_json import ConfigJson
from t5x_style.interop.huggingface.correspondence import Correspondence
from t5x_style.interop.huggingface.family_registry import family_of, keys_of
from t5x_style.interop.huggingface.safetensors_files import (
  INDEX,
  SINGLE,
  Tensor,
  read_folder,
  read_header,
  same_bits,
)
from t5x_style.interop.huggingface.tensor_rules import TensorRule
from t5x_style.models import TransformerConfig

UNUSED_FILE = "unused.safetensors"  # where an import keeps tensors that are no parameters
_FLOATS = ("float32", "float64", "float16", "bfloat16")
# TensorFlow's names, which the files of the first BERTs have.
_OLD_NAMES = ((".gamma", ".weight"), (".beta", ".bias"))


@dataclasses.dataclass(frozen=True)
class ModelFolder:
  """A Hugging Face folder that holds all tensors of a model of a known family.

  Attributes:
    tensors: by the names that the rules use.
    left_out: {name in the file: why it is not needed}.
    unused: those of them that are no parameters of a Transformer and are exported again.
  """

  config_json: ConfigJson
  correspondence: Correspondence
  tensors: Mapping[str, Tensor]
  left_out: Mapping[str, str]
  unused: Mapping[str, Tensor]

  def view(self, rule: TensorRule) -> np.ndarray:
    """Returns the tensor of a rule in the shape of the parameter; it is read when it is used."""
    return rule.view(self.tensors[rule.tensor].map(), self.correspondence.sizes)


def open_folder(folder: str | Path, **changes: Any) -> ModelFolder:
  """Opens a folder: reads config.json and the headers of its safetensors, and compares them.

  Args:
    changes: fields of the TransformerConfig that do not alter the model, such as scan_layers.

  Raises:
    UserError: a file is missing or damaged, or config.json has a value that TransformerConfig
      cannot express, or the tensors are not those of the model; then all that are missing, left
      over or of another shape are listed.
  """
  config_json = ConfigJson.read(folder)
  family = family_of(config_json)
  tensors = _canonical(read_folder(folder), family)
  config = TransformerConfig(**(family.from_config_json(config_json, tensors) | changes))
  correspondence = Correspondence(config, family)
  for name, other in correspondence.repeated.items():
    if name in tensors:  # A file may hold either of two names of the same tensor.
      tensors.setdefault(other, tensors[name])
  left_out = _check(str(folder), config_json, correspondence, tensors)
  kept = {name: tensor for name, tensor in tensors.items() if name in correspondence.tensors}
  return ModelFolder(config_json, correspondence, kept, left_out, _unused(correspondence, tensors))


def read_unused(folder: Path, correspondence: Correspondence) -> dict[str, Tensor]:
  """Returns the tensors that are no parameters of a Transformer.

  Args:
    folder: a Hugging Face folder, or the one in which an import kept them.

  Raises:
    UserError: a file is missing or damaged.
  """
  if (folder / UNUSED_FILE).is_file():
    tensors = read_header(folder / UNUSED_FILE)
  elif (folder / INDEX).is_file() or (folder / SINGLE).is_file():
    tensors = read_folder(folder)
  else:
    return {}
  return _unused(correspondence, _canonical(tensors, correspondence.family))


def finite(values: np.ndarray, name: str, folder: str) -> np.ndarray:
  """Returns the values.

  Raises:
    UserError: some are NaN or infinite.
  """
  if not np.isfinite(values).all():
    raise not_finite_error([name], folder)
  return values


def not_finite_error(names: Sequence[str], folder: str) -> UserError:
  """Returns the error that these tensors of a folder hold NaN or infinity."""
  return UserError(
    f"{folder!r} holds numbers that are NaN or infinite, so the model is damaged or diverged while "
    f"it was trained: {', '.join(shortened(names))}. Take another checkpoint of it."
  )


def _canonical(tensors: Mapping[str, Tensor], family: ModuleType) -> dict[str, Tensor]:
  """Returns the tensors by the names that they have in a model with a head."""
  base = family.BASE_PREFIX
  bare = base and not any(name.startswith(base) for name in tensors)
  found = {}
  for name, tensor in tensors.items():
    for old, new in _OLD_NAMES:
      if name.endswith(old):
        name = name.removesuffix(old) + new
    headless = bare and not name.startswith(tuple(family.HEAD_PREFIXES))
    found[base + name if headless else name] = tensor
  return found


def _unused(model: Correspondence, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
  """Returns the tensors that are no parameters of a Transformer and have the model's sizes."""
  return {
    name: tensors[name]
    for name, layout in getattr(model.family, "UNUSED_TENSORS", {}).items()
    if name in tensors
    and name not in model.tensors
    and tensors[name].shape == tuple(model.sizes[letter] for letter in layout.split())
  }


def _check(
  folder: str, config_json: ConfigJson, model: Correspondence, tensors: Mapping[str, Tensor]
) -> dict[str, str]:
  """Returns {name: why it is not needed} of the tensors that hold no parameter.

  Raises:
    UserError: the tensors are not those of the model.
  """
  wrong, left_out = [], {}
  for name, shape in model.tensors.items():
    if name not in tensors:
      wrong.append(f"  missing: {name} {list(shape)}")
    elif tensors[name].shape != shape:
      wrong.append(
        f"  {name}: {list(tensors[name].shape)} in the file, {list(shape)} by config.json"
      )
    elif tensors[name].dtype.name not in _FLOATS:
      wrong.append(f"  {name}: holds {tensors[name].dtype.name}, not floating-point numbers")
  for name in tensors:
    if name not in model.tensors:
      reason = _not_needed(name, model, tensors)
      if reason:
        left_out[name] = reason
      else:
        wrong.append(f"  {_misfit(name, model, tensors)}")
  if wrong:
    raise UserError(
      f"The tensors of {folder!r} are not those of the model that its config.json describes; "
      f"{len(wrong)} differ:\n" + "\n".join(shortened(wrong)) + _hint(config_json, model)
    )
  return left_out


def _not_needed(name: str, model: Correspondence, tensors: Mapping[str, Tensor]) -> str | None:
  """Returns why a tensor that holds no parameter may be left out; None if it may not."""
  tensor, other = tensors[name], model.repeated.get(name)
  if any(re.fullmatch(pattern, name) for pattern in model.family.BUFFERS):
    return "a buffer, not a parameter"
  if other is not None and same_bits(tensor, tensors.get(other)):
    return f"the same as {other}"
  if name in getattr(model.family, "UNUSED_TENSORS", {}):
    return "not a parameter of this package's model"
  if name in model.zeros and tensor.shape == model.zeros[name] and not tensor.map().any():
    return "zeros, and not a parameter of this package's model"
  return None


def _misfit(name: str, model: Correspondence, tensors: Mapping[str, Tensor]) -> str:
  """Says what is wrong with a tensor that holds no parameter and may not be left out."""
  if name in model.copies:
    return f"{name} differs from {model.repeated[name]}; this package has one parameter for both"
  if name in model.repeated:
    return f"{name} differs from {model.repeated[name]}, which config.json ties it to"
  return f"left over: {name} {list(tensors[name].shape)}"


def _hint(config_json: ConfigJson, model: Correspondence) -> str:
  """Says what may be the reason that the tensors are not those of the model."""
  hint = ""
  if sizes := config_json.defaulted_sizes(keys_of(config_json)):
    hint += f"\nconfig.json leaves out, so transformers' defaults are used: {', '.join(sizes)}."
  classes = config_json.architectures
  if classes and classes[0] not in model.family.CLASSES:
    hint += (
      f"\nIt is a {classes[0]}; supported classes of {config_json.model_type} models are "
      f"{', '.join(model.family.CLASSES)}."
    )
  return hint
