"""The folder of a Hugging Face model: opened, and checked to hold a whole model that is known."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
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

UNUSED = "unused.safetensors"  # the file in which an import keeps what has no place here
_FLOATS = ("float32", "float64", "float16", "bfloat16")
# Names of TensorFlow, which files of the first BERTs still have.
_OLD_NAMES = ((".gamma", ".weight"), (".beta", ".bias"))


@dataclasses.dataclass(frozen=True)
class ModelFolder:
  """A Hugging Face folder that was found to be a whole model of a family known here."""

  config_json: ConfigJson
  correspondence: Correspondence
  tensors: Mapping[str, Tensor]  # by the names that the rules use
  left_out: Mapping[str, str]  # {name in the file: why it is not needed}
  unused: Mapping[str, Tensor]  # those left out that a model of theirs has and none of ours

  def view(self, rule: TensorRule) -> np.ndarray:
    """The tensor, or part of one, that a rule is about, in the shape of ours and not read yet."""
    return rule.view(self.tensors[rule.tensor].map(), self.correspondence.sizes)


def open_folder(folder: str | Path, **changes: Any) -> ModelFolder:
  """Reads config.json and the headers of the safetensors of a folder, and checks that all fits.

  Args:
    changes: fields of the TransformerConfig that do not alter the model, such as scan_layers.

  Raises:
    UserError: files are missing, or a file is damaged, a setting cannot be expressed, or the
      tensors are not those of the model; then all that are missing, left over or of another shape
      are listed.
  """
  config_json = ConfigJson.read(folder)
  family = family_of(config_json)
  tensors = _canonical(read_folder(folder), family)
  config = TransformerConfig(**(family.from_config_json(config_json, tensors) | changes))
  correspondence = Correspondence(config, family)
  for name, other in correspondence.repeated.items():
    if name in tensors:  # Of two that are one, a file may hold either.
      tensors.setdefault(other, tensors[name])
  left_out = _check(str(folder), config_json, correspondence, tensors)
  kept = {name: tensor for name, tensor in tensors.items() if name in correspondence.tensors}
  return ModelFolder(config_json, correspondence, kept, left_out, _unused(correspondence, tensors))


def read_unused(folder: Path, correspondence: Correspondence) -> dict[str, Tensor]:
  """What has no place in the models here, of a Hugging Face folder or of what an import kept.

  Raises:
    UserError: a file is missing or damaged.
  """
  if (folder / UNUSED).is_file():
    tensors = read_header(folder / UNUSED)
  elif (folder / INDEX).is_file() or (folder / SINGLE).is_file():
    tensors = read_folder(folder)
  else:
    return {}
  return _unused(correspondence, _canonical(tensors, correspondence.family))


def finite(values: np.ndarray, name: str, folder: str) -> np.ndarray:
  """The values.

  Raises:
    UserError: some are NaN or infinite.
  """
  if not np.isfinite(values).all():
    raise not_finite_error([name], folder)
  return values


def not_finite_error(names: Sequence[str], folder: str) -> UserError:
  return UserError(
    f"{folder!r} holds numbers that are NaN or infinite, so the model is damaged or diverged while "
    f"it was trained: {', '.join(shortened(names))}. Take another checkpoint of it."
  )


def _canonical(tensors: Mapping[str, Tensor], family: ModuleType) -> dict[str, Tensor]:
  """The tensors by the names of a model with a head, in which the base model has a prefix."""
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
  """Tensors that only Hugging Face's model has; they are of no use to a model of another size."""
  return {
    name: tensors[name]
    for name, layout in getattr(model.family, "UNUSED_TENSORS", {}).items()
    if name in tensors
    and name not in model.tensors
    and tensors[name].shape == tuple(model.sizes[letter] for letter in layout.split())
  }


def _matches(name: str, patterns: Iterable[str]) -> bool:
  return any(re.fullmatch(pattern, name) for pattern in patterns)


def _check(
  folder: str, config_json: ConfigJson, model: Correspondence, tensors: Mapping[str, Tensor]
) -> dict[str, str]:
  """What of the tensors is not needed, and why."""
  wrong, left_out = [], {}
  repeated = model.repeated
  for name, shape in model.tensors.items():
    if name not in tensors:
      wrong.append(f"  missing: {name} {list(shape)}")
    elif tensors[name].shape != shape:
      wrong.append(f"  {name}: {list(tensors[name].shape)} there, {list(shape)} by config.json")
    elif tensors[name].dtype.name not in _FLOATS:
      wrong.append(f"  {name}: holds {tensors[name].dtype.name}, not floating-point numbers")
  for name, tensor in tensors.items():
    if name in model.tensors:
      continue
    if _matches(name, model.family.BUFFERS):
      left_out[name] = "a buffer, not a parameter"
    elif name in repeated and same_bits(tensor, tensors.get(repeated[name])):
      left_out[name] = f"the same as {repeated[name]}"
    elif name in getattr(model.family, "UNUSED_TENSORS", {}):
      left_out[name] = "has no place in the model here"
    elif name in model.zeros and tensor.shape == model.zeros[name] and not tensor.map().any():
      left_out[name] = "zeros, as always there"
    elif name in model.copies:
      wrong.append(f"  {name} differs from {repeated[name]}; models here have one for both")
    elif name in repeated:
      wrong.append(f"  {name} differs from {repeated[name]}, which config.json ties it to")
    else:
      wrong.append(f"  left over: {name} {list(tensor.shape)}")
  if wrong:
    classes = config_json.architectures
    hint = ""
    if unsaid := config_json.defaulted_sizes(keys_of(config_json)):
      hint += f"\nconfig.json does not say, so as in transformers: {', '.join(unsaid)}."
    if classes and classes[0] not in model.family.CLASSES:
      hint += (
        f"\nIt is a {classes[0]}; {config_json.model_type} models are known as "
        f"{', '.join(model.family.CLASSES)}."
      )
    raise UserError(
      f"The tensors of {folder!r} are not those of the model that its config.json describes; "
      f"{len(wrong)} differ:\n" + "\n".join(shortened(wrong)) + hint
    )
  return left_out
