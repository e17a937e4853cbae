"""Writes the parameters of a Hugging Face folder as a checkpoint, one piece at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from t5x_style.checkpoints.array_pieces import piece_shape, pieces
from t5x_style.checkpoints.array_writer import ArrayWriter
from t5x_style.interop.huggingface import safetensors_files
from t5x_style.interop.huggingface.casting import cast
from t5x_style.interop.huggingface.conversion_report import ReportLine, report_import
from t5x_style.interop.huggingface.correspondence import ParameterPlace, abstract_params
from t5x_style.interop.huggingface.model_folder import (
  UNUSED_FILE,
  ModelFolder,
  not_finite_error,
)
from t5x_style.interop.huggingface.tensor_rules import Keys, TensorRule


def import_folder(source: ModelFolder, step: Path, dtype: str | None = None) -> list[ReportLine]:
  """Writes the parameters of a Hugging Face folder as STEP/state.

  Args:
    dtype: of the parameters in the checkpoint; None keeps the dtype that each has in the folder.

  Returns:
    The report on every tensor of the folder.

  Raises:
    UserError: some numbers are NaN or infinite.
  """
  damaged: dict[str, None] = {}
  writer = ArrayWriter(step)
  shapes = abstract_params(source.correspondence.config)
  for keys, parts in source.correspondence.places.items():
    first = source.tensors[parts[0][1].tensor].dtype
    damaged |= _write_parameter(
      writer, source, keys, shapes[keys].shape, parts, np.dtype(dtype or first)
    )
  if damaged:
    raise not_finite_error([*damaged], str(Path(source.config_json.source).parent))
  writer.close()
  return report_import(source)


def keep_unused(source: ModelFolder, target: Path, dtype: str | None = None) -> None:
  """Writes the tensors that are no parameters of a Transformer to TARGET/unused.safetensors.

  A later export writes them again.
  """
  if source.unused:
    shapes = {
      name: (tensor.shape, np.dtype(dtype or tensor.dtype))
      for name, tensor in source.unused.items()
    }
    kept = safetensors_files.create_file(target / UNUSED_FILE, shapes)
    for name, tensor in source.unused.items():
      kept[name].map(writable=True)[...] = cast(tensor.map(), kept[name].dtype, name)


def _write_parameter(
  writer: ArrayWriter,
  source: ModelFolder,
  keys: Keys,
  shape: tuple[int, ...],
  parts: list[tuple[ParameterPlace, TensorRule]],
  dtype: np.dtype,
) -> dict[str, None]:
  """Writes one parameter; returns the names of its tensors that hold NaN or infinity."""
  damaged: dict[str, None] = {}
  view = source.view(parts[0][1])
  # Cut along the axis whose neighbours are farthest apart in the file: a piece is then contiguous.
  axis = int(np.argmax(view.strides))
  piece = piece_shape(view.shape, dtype.itemsize, axis)
  stacked = (1,) * len(parts[0][0].index)
  array = writer.create(("params", *keys), shape, (*stacked, *piece), dtype)
  for place, rule in parts:
    for index in pieces(view.shape, piece):
      # Each piece maps the file again, so that pieces read before do not stay in memory.
      values = cast(source.view(rule)[index], dtype, rule.tensor)
      if not np.isfinite(values).all():
        damaged[rule.tensor] = None
      array[(*place.index, *index)] = values
  return damaged
