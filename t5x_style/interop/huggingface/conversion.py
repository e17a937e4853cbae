"""Whole checkpoints, from Hugging Face's folders to ours and back, piece by piece."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from t5x_style.checkpoints.array_pieces import Index, piece_shape, pieces
from t5x_style.checkpoints.array_writer import ArrayWriter
from t5x_style.checkpoints.arrays import LazyArray, orbax_arrays
from t5x_style.errors import UserError, shortened
from t5x_style.interop.huggingface import safetensors_files
from t5x_style.interop.huggingface.correspondence import (
  Correspondence,
  ParameterPlace,
  abstract_params,
  shape_of,
)
from t5x_style.interop.huggingface.model_folder import UNUSED, ModelFolder, not_finite_error
from t5x_style.interop.huggingface.tensor_rules import Keys, TensorRule

DTYPES = {
  "float32": np.dtype(np.float32),
  "bfloat16": np.dtype(ml_dtypes.bfloat16),
  "float16": np.dtype(np.float16),
}


@dataclasses.dataclass(frozen=True)
class ReportLine:
  """One line of the report: a tensor of theirs, and what it is here."""

  name: str
  shape: tuple[int, ...] | None  # None where it was left out
  dtype: str
  where: str

  @property
  def size(self) -> int:
    return 0 if self.shape is None else math.prod(self.shape)


def import_folder(source: ModelFolder, target: Path, dtype: str | None = None) -> list[ReportLine]:
  """Writes the parameters of a Hugging Face folder as TARGET/state.

  Args:
    dtype: of the parameters in the checkpoint; None keeps what each has in the file.

  Raises:
    UserError: some of them are NaN or infinite.
  """
  damaged: dict[str, None] = {}
  writer = ArrayWriter(target)
  shapes = abstract_params(source.correspondence.config)
  for keys, parts in source.correspondence.places.items():
    first = source.tensors[parts[0][1].tensor].dtype
    _import_parameter(
      writer, source, keys, shapes[keys].shape, parts, DTYPES.get(dtype or "", first), damaged
    )
  if damaged:
    raise not_finite_error([*damaged], str(Path(source.config_json.source).parent))
  writer.close()
  return report_of(source)


def keep_unused(source: ModelFolder, target: Path, dtype: str | None = None) -> None:
  """Writes what has no place in the model here to a file of its own, for the way back."""
  if source.unused:
    shapes = {
      name: (tensor.shape, DTYPES.get(dtype or "", tensor.dtype))
      for name, tensor in source.unused.items()
    }
    kept = safetensors_files.create_file(target / UNUSED, shapes)
    for name, tensor in source.unused.items():
      kept[name].map(writable=True)[...] = cast(tensor.map(), kept[name].dtype, name)


def _import_parameter(
  writer: ArrayWriter,
  source: ModelFolder,
  keys: Keys,
  shape: tuple[int, ...],
  parts: list[tuple[ParameterPlace, TensorRule]],
  dtype: np.dtype,
  damaged: dict[str, None],
) -> None:
  """Writes one parameter; adds Hugging Face's tensors with NaN or infinity in them to `damaged`."""
  view = source.view(parts[0][1])
  # Cut where neighbours lie far apart in their file: each piece is then read in one go.
  axis = int(np.argmax(view.strides))
  piece = piece_shape(view.shape, dtype.itemsize, axis)
  stacked = () if parts[0][0].index is None else (1,)
  array = writer.create(("params", *keys), shape, (*stacked, *piece), dtype)
  for place, rule in parts:
    for index in pieces(view.shape, piece):
      # Mapped anew for each piece, so that those read before do not stay in memory.
      values = cast(source.view(rule)[index], dtype, rule.tensor)
      if not np.isfinite(values).all():
        damaged[rule.tensor] = None
      array[index if place.index is None else (place.index, *index)] = values


def export_step(
  step: Path,
  target: Path,
  correspondence: Correspondence,
  *,
  dtype: str | None = None,
  max_shard_size: int,
  unused: Mapping[str, safetensors_files.Tensor] | None = None,
) -> list[ReportLine]:
  """Writes the parameters of a checkpoint as safetensors.

  Args:
    step: the folder that holds state/.
    unused: tensors of the model that training began from which have no place in ours.
    dtype: of the tensors; None keeps what each parameter has in the checkpoint.
    max_shard_size: bytes of a file.

  Raises:
    UserError: the checkpoint is not one of this model.
  """
  arrays = _open_parameters(step)
  _check_arrays(step, arrays, correspondence)
  places = correspondence.places
  dtypes = _dtypes(arrays, correspondence, dtype)
  most = max(dtypes.values(), key=list(dtypes.values()).count)
  unused = unused or {}
  copies = {name: x for name, x in correspondence.copies.items() if name not in unused}
  shapes = correspondence.tensors | correspondence.zeros
  shapes |= {name: shapes[other] for name, other in copies.items()}
  shapes |= {name: tensor.shape for name, tensor in unused.items()}
  dtypes |= {name: dtypes[other] for name, other in copies.items()}
  dtypes |= {name: DTYPES.get(dtype or "", tensor.dtype) for name, tensor in unused.items()}
  files = safetensors_files.create_folder(
    target,
    {
      correspondence.file_name(name): (shape, dtypes.get(name, most))
      for name, shape in shapes.items()
    },
    max_shard_size,
  )
  tensors = {name: files[correspondence.file_name(name)] for name in correspondence.tensors}
  for keys, parts in places.items():
    by_index = {place.index: rule for place, rule in parts}
    array = arrays[keys]
    for index in array.chunks():
      values = array.fetch(index)
      if None in by_index:
        _assign(tensors, correspondence, by_index[None], index, values)
        continue
      for layer, of_layer in zip(range(*index[0].indices(array.shape[0])), values, strict=True):
        _assign(tensors, correspondence, by_index[layer], index[1:], of_layer)
  whole = {name: tensors[other] for name, other in copies.items()} | dict(unused)
  for name, tensor in whole.items():
    view = files[correspondence.file_name(name)].map(writable=True)
    for part in pieces(view.shape, piece_shape(view.shape, view.itemsize, 0)):
      view[part] = cast(tensor.map()[part], view.dtype, name)
  return report(correspondence, dtypes) + [
    ReportLine(name, shapes[name], dtypes[name].name, where)
    for name, where in _explained(copies, unused).items()
  ]


def _explained(copies: Mapping[str, str], unused: Iterable[str]) -> dict[str, str]:
  """What is said of the tensors that are no parameters here."""
  imported = "no parameter here: as in the imported model, whatever was trained since"
  return {name: f"the same as {other}" for name, other in copies.items()} | dict.fromkeys(
    unused, imported
  )


def _assign(
  tensors: Mapping[str, safetensors_files.Tensor],
  correspondence: Correspondence,
  rule: TensorRule,
  index: Index,
  values: np.ndarray,
) -> None:
  if rule.skip:  # Hugging Face's index 0 is this package's `skip`.
    start, stop = index[0].start - rule.skip, index[0].stop - rule.skip
    values = values[max(-start, 0) :]
    index = (slice(max(start, 0), max(stop, 0)), *index[1:])
  tensor = tensors[rule.tensor]
  view = rule.view(tensor.map(writable=True), correspondence.sizes)[index]
  piece = piece_shape(view.shape, tensor.dtype.itemsize, int(np.argmax(view.strides)))
  for part in pieces(view.shape, piece):
    scaled = values[part] if rule.factor == 1 else values[part] * values.dtype.type(rule.factor)
    view[part] = cast(scaled, tensor.dtype, rule.tensor)


def cast(values: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
  """The values in another dtype, contiguous.

  Raises:
    UserError: float16 cannot hold them.
  """
  with np.errstate(over="ignore"):
    out = np.ascontiguousarray(values, dtype)
  if dtype == np.float16 and not np.isfinite(out).all() and np.isfinite(values).all():
    raise UserError(f"{name} holds numbers too large for float16; use --dtype=bfloat16.")
  return out


def report(correspondence: Correspondence, dtypes: Mapping[str, np.dtype]) -> list[ReportLine]:
  """Every tensor and the parameters it is, or is a part of."""
  where: dict[str, list[str]] = {}
  for parts in correspondence.places.values():
    for place, rule in parts:
      where.setdefault(rule.tensor, []).append(str(place))
  return [
    ReportLine(name, shape, dtypes[name].name, " + ".join(where[name]))
    for name, shape in correspondence.tensors.items()
  ]


def report_of(source: ModelFolder) -> list[ReportLine]:
  """What is, or would be, imported from a folder, and what of it is left out."""
  return report(source.correspondence, {n: t.dtype for n, t in source.tensors.items()}) + [
    ReportLine(
      name,
      None,
      "",
      f"left out: {reason}" + ("; kept to be exported again" if name in source.unused else ""),
    )
    for name, reason in source.left_out.items()
  ]


def check_step(step: Path, correspondence: Correspondence, dtype: str | None) -> list[ReportLine]:
  """What would be exported from a checkpoint; raises as `export_step` does."""
  arrays = _open_parameters(step)
  _check_arrays(step, arrays, correspondence)
  return report(correspondence, _dtypes(arrays, correspondence, dtype))


def write_config_json(
  target: Path, config_json: Mapping[str, Any], moved: Sequence[ReportLine]
) -> None:
  """Writes config.json; the dtype in it is that of most parameters."""
  sizes: dict[str, int] = {}
  for tensor in moved:
    sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size
  dtype = max(sizes, key=lambda name: sizes[name])
  kept = {name: value for name, value in config_json.items() if name != "dtype"}
  # transformers 4 reads torch_dtype, 5 either.
  text = json.dumps(kept | {"torch_dtype": dtype}, indent=2)
  (target / "config.json").write_text(text + "\n")


def _dtypes(
  arrays: Mapping[Keys, LazyArray], correspondence: Correspondence, dtype: str | None
) -> dict[str, np.dtype]:
  return {
    rule.tensor: DTYPES.get(dtype or "", arrays[keys].dtype)
    for keys, parts in correspondence.places.items()
    for _, rule in parts
  }


def _open_parameters(step: Path) -> dict[Keys, LazyArray]:
  arrays = orbax_arrays(step / "state", "params", setting="--from")
  return {tuple(name.split("/")): array for name, array in arrays.items()}


def _check_arrays(
  step: Path, arrays: Mapping[Keys, LazyArray], correspondence: Correspondence
) -> None:
  wanted = abstract_params(correspondence.config)
  wrong = [
    f"  {'/'.join(keys)}: saved {shape_of(arrays.get(keys))}, by the configuration "
    f"{shape_of(wanted.get(keys))}"
    for keys in sorted(arrays.keys() | wanted.keys())
    if shape_of(arrays.get(keys)) != shape_of(wanted.get(keys))
  ]
  if wrong:
    raise UserError(
      f"{str(step)!r} does not hold the model that the gin file describes; {len(wrong)} parameters "
      "differ:\n" + "\n".join(shortened(wrong))
    )
