"""This package's parameters as those of a transformers model."""

from typing import Any

import jax
import numpy as np

from t5x_style.interop.huggingface.correspondence import Correspondence
from t5x_style.interop.huggingface.family_registry import FAMILIES
from t5x_style.models import TransformerConfig


def tensors(config: TransformerConfig, params: Any, model_type: str) -> dict[str, np.ndarray]:
  """Returns {name in transformers: float32 array} of all parameters, in transformers' layouts.

  Args:
    config: the model.
    params: its parameters, scanned or unrolled.
    model_type: as in config.json: "t5", "bert", ...

  Raises:
    UserError: models of this type do not have the same parameters.
  """
  there = Correspondence(config, FAMILIES[model_type])
  leaves = {
    tuple(key.key for key in path): np.asarray(jax.device_get(leaf), np.float32)
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
  }
  shapes = there.tensors | there.zeros
  made = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
  for keys, parts in there.places.items():
    for place, rule in parts:
      own = leaves[keys][place.index]
      rule.view(made[rule.tensor], there.sizes)[...] = own[rule.skip :] * np.float32(rule.factor)
  return made


def load(model: Any, arrays: dict[str, np.ndarray]) -> None:
  """Loads all parameters of a PyTorch model.

  Raises:
    AssertionError: a parameter is neither given nor tied to a given one, or an array fits none.
  """
  import torch

  given = {name: torch.from_numpy(value.copy()) for name, value in arrays.items()}
  result = model.load_state_dict(given, strict=False)
  pointers = {p.data_ptr() for name, p in model.state_dict().items() if name in given}
  missing = [
    name
    for name, p in model.named_parameters()
    if name not in given and p.data_ptr() not in pointers
  ]
  if result.unexpected_keys or missing:
    raise AssertionError(f"weights unknown {result.unexpected_keys}, missing {missing}")
