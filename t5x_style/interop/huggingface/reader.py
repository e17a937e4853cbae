"""Reads INITIAL_CHECKPOINT_PATH = "hf:FOLDER": the parameters of a Hugging Face model."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from t5x_style.checkpoints.arrays import LazyArray
from t5x_style.checkpoints.single_layers import Shapes
from t5x_style.checkpoints.warm_start import ADAPT_SETTING, Reader
from t5x_style.errors import UserError, shortened
from t5x_style.interop.huggingface.model_folder import finite, open_folder
from t5x_style.interop.huggingface.path_prefix import PREFIX
from t5x_style.interop.huggingface.tensor_rules import TensorRule
from t5x_style.models import TransformerConfig
from t5x_style.models.config_differences import differences


def read(path: str, config: TransformerConfig, shapes: Shapes) -> dict[str, LazyArray] | None:
  """Opens the parameters of a Hugging Face folder: `read` of a `warm_start.Reader`.

  Args:
    path: "hf:FOLDER".
    config: of the model that is to have the parameters.
    shapes: {name: shape} of its parameters with unrolled layers.

  Returns:
    {name: array}; None where `path` does not begin with "hf:".

  Raises:
    UserError: as `open_folder`; or the folder's model computes something else than the configured
      one.
  """
  folder = _folder(path)
  if folder is None:
    return None
  source = open_folder(folder, scan_layers=False)
  stored = dataclasses.replace(source.correspondence.config, vocab_size=config.vocab_size)
  stored = _with_longer_rows(path, stored, config)
  if config.pooled_classes:  # The head of the task may be new.
    stored = dataclasses.replace(stored, pooled_classes=config.pooled_classes)
  wrong = differences(config, stored)
  if wrong:
    raise UserError(
      f"INITIAL_CHECKPOINT_PATH = {path!r} holds another model than the one configured "
      f"(configured, in the folder): {'; '.join(shortened(wrong))}. A model file that fits is "
      f"written by `python -m launch.convert --from {path} --to NEW_FOLDER`. To start a model of "
      "another architecture or another number of layers from it, or experts from a dense model, "
      f"set {ADAPT_SETTING}."
    )

  def lazy_array(rule: TensorRule) -> LazyArray:
    return LazyArray(
      rule.shapes(source.correspondence.sizes)[1],
      source.tensors[rule.tensor].dtype,
      lambda i: finite(source.view(rule)[i], rule.tensor, folder),
    )

  return {
    "/".join(keys): _of_experts([lazy_array(rule) for _, rule in parts])
    if parts[0][0].index
    else lazy_array(parts[0][1])
    for keys, parts in source.correspondence.places.items()
  }


def _of_experts(kernels: list[LazyArray]) -> LazyArray:
  """Returns the kernels of all experts of an unrolled layer as one array."""

  def fetch(index: tuple[Any, ...]) -> np.ndarray:
    whole = index if isinstance(index, tuple) else (index,)
    chosen, *inside = whole or (slice(None),)
    if isinstance(chosen, slice):
      return np.stack([kernel.fetch(tuple(inside)) for kernel in kernels[chosen]])
    return kernels[chosen].fetch(tuple(inside))

  return LazyArray((len(kernels), *kernels[0].shape), kernels[0].dtype, fetch)


def _with_longer_rows(
  path: str, stored: TransformerConfig, config: TransformerConfig
) -> TransformerConfig:
  """Returns the stored model with the configured scaling of positions, if that extends its rows."""
  scaling = config.rotary_scaling
  extends = scaling is not None and scaling.kind in ("linear", "yarn")
  if not extends or stored.positions != "rotary" or stored.rotary_scaling == scaling:
    return stored
  warnings.warn(
    f"{path} has rotary_scaling = {stored.rotary_scaling}; this run trains with {scaling}.",
    stacklevel=2,
  )
  return dataclasses.replace(stored, rotary_scaling=scaling)


def stored_model(path: str, config: TransformerConfig) -> TransformerConfig | None:
  """Returns the model of a Hugging Face folder: `stored_model` of a `warm_start.Reader`.

  Raises:
    UserError: as `open_folder`.
  """
  folder = _folder(path)
  return None if folder is None else open_folder(folder, scan_layers=False).correspondence.config


def _folder(path: str) -> str | None:
  """Returns the folder of "hf:FOLDER", None for other paths.

  Raises:
    UserError: the prefix of a Hugging Face folder is missing.
  """
  if path.startswith(PREFIX):
    return path.removeprefix(PREFIX)
  if (Path(os.path.expanduser(path)) / "config.json").is_file():
    raise UserError(
      f"INITIAL_CHECKPOINT_PATH = {path!r} is a Hugging Face folder; write {PREFIX + path!r}."
    )
  return None


READER = Reader(read, stored_model)
