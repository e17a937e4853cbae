"""Reads INITIAL_CHECKPOINT_PATH = "hf:FOLDER": the parameters of a Hugging Face model."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path

from t5x_style.checkpoints.arrays import LazyArray
from t5x_style.checkpoints.warm_start import Shapes
from t5x_style.errors import UserError, shortened
from t5x_style.interop.huggingface.config_differences import differences
from t5x_style.interop.huggingface.model_folder import finite, open_folder
from t5x_style.interop.huggingface.path_prefix import PREFIX
from t5x_style.interop.huggingface.tensor_rules import TensorRule
from t5x_style.models import TransformerConfig


def read(path: str, config: TransformerConfig, shapes: Shapes) -> dict[str, LazyArray] | None:
  """Opens the parameters of a Hugging Face folder: a `warm_start.Reader`.

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
  if not path.startswith(PREFIX):
    if (Path(os.path.expanduser(path)) / "config.json").is_file():
      raise UserError(
        f"INITIAL_CHECKPOINT_PATH = {path!r} is a Hugging Face folder; write {PREFIX + path!r}."
      )
    return None
  folder = path.removeprefix(PREFIX)
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
      f"written by `python -m launch.convert --from {path} --to NEW_FOLDER`."
    )

  def lazy_array(rule: TensorRule) -> LazyArray:
    return LazyArray(
      rule.shapes(source.correspondence.sizes)[1],
      source.tensors[rule.tensor].dtype,
      lambda i: finite(source.view(rule)[i], rule.tensor, folder),
    )

  places = source.correspondence.places
  return {"/".join(keys): lazy_array(parts[0][1]) for keys, parts in places.items()}


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
