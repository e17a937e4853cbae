"""Writes the parameters of a checkpoint as a Hugging Face folder, one piece at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from t5x_style.checkpoints.array_pieces import Index, piece_shape, pieces
from t5x_style.checkpoints.arrays import LazyArray, orbax_arrays
from t5x_style.errors import UserError, shortened
from t5x_style.interop.huggingface import safetensors_files
from t5x_style.interop.huggingface.casting import cast
from t5x_style.interop.huggingface.conversion_report import ReportLine, report_parameters
from t5x_style.interop.huggingface.correspondence import Correspondence, abstract_params, shape_of
from t5x_style.interop.huggingface.safetensors_files import Tensor
from t5x_style.interop.huggingface.tensor_rules import Keys, TensorRule


def export_step(
  step: Path,
  target: Path,
  correspondence: Correspondence,
  *,
  dtype: str | None = None,
  max_shard_size: int,
  unused: Mapping[str, Tensor] | None = None,
  without: str | None = None,
) -> list[ReportLine]:
  """Writes the parameters of a checkpoint as safetensors.

  Args:
    step: the folder that holds state/.
    target: an existing folder.
    dtype: of the tensors; None keeps the dtype that each parameter has in the checkpoint.
    max_shard_size: bytes of a file.
    unused: tensors of the imported model that are no parameters of a Transformer; they are
      written unchanged.
    without: begins the names of parameters that are left out; None: all are written.

  Returns:
    The report on every tensor.

  Raises:
    UserError: the checkpoint is not one of this model.
  """
  arrays, left_out = _open_parameters(step, correspondence, without)
  unused = unused or {}
  plan = _plan(arrays, correspondence, dtype, unused)
  files = safetensors_files.create_folder(target, plan.files(correspondence), max_shard_size)
  tensors = {name: files[correspondence.file_name(name)] for name in plan.shapes}
  for keys, array in arrays.items():
    _export_parameter(array, keys, correspondence, tensors)
  for name, source in (
    {x: tensors[other] for x, other in plan.copies.items()} | dict(unused)
  ).items():
    _copy(source, tensors[name], name)
  return [
    *report_parameters(correspondence, plan.dtypes),
    *plan.report_others(unused),
    *left_out,
  ]


def check_step(
  step: Path, correspondence: Correspondence, dtype: str | None, without: str | None = None
) -> list[ReportLine]:
  """Reports what an export would write; raises as `export_step` does, and writes nothing."""
  arrays, left_out = _open_parameters(step, correspondence, without)
  dtypes = _dtypes(arrays, correspondence, dtype)
  return report_parameters(correspondence, dtypes) + left_out


def write_config_json(
  target: Path, config_json: Mapping[str, Any], report: Sequence[ReportLine]
) -> None:
  """Writes config.json; its dtype is that of most of the numbers."""
  sizes: dict[str, int] = {}
  for line in report:
    sizes[line.dtype] = sizes.get(line.dtype, 0) + line.size
  dtype = max(sizes, key=lambda name: sizes[name])
  kept = {name: value for name, value in config_json.items() if name != "dtype"}
  # transformers 4 reads torch_dtype only, 5 reads either.
  text = json.dumps(kept | {"torch_dtype": dtype}, indent=2)
  (target / "config.json").write_text(text + "\n")


class _Plan(NamedTuple):
  """The tensors to write."""

  shapes: dict[str, tuple[int, ...]]
  dtypes: dict[str, np.dtype]  # of those that are not zeros
  copies: dict[str, str]  # {name: the tensor that it repeats}

  def files(self, correspondence: Correspondence) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Returns {name in the files: (shape, dtype)}; zeros get the most frequent dtype."""
    dtypes = [self.dtypes[name] for name in correspondence.tensors]
    most = max(dtypes, key=dtypes.count)
    return {
      correspondence.file_name(name): (shape, self.dtypes.get(name, most))
      for name, shape in self.shapes.items()
    }

  def report_others(self, unused: Mapping[str, Tensor]) -> list[ReportLine]:
    """Reports the tensors that hold no parameter."""
    imported = "not a parameter of this package: as in the imported model, not trained since"
    where = {name: f"the same as {other}" for name, other in self.copies.items()}
    where |= dict.fromkeys(unused, imported)
    return [
      ReportLine(name, self.shapes[name], self.dtypes[name].name, text)
      for name, text in where.items()
    ]


def _plan(
  arrays: Mapping[Keys, LazyArray],
  correspondence: Correspondence,
  dtype: str | None,
  unused: Mapping[str, Tensor],
) -> _Plan:
  shapes = correspondence.tensors | correspondence.zeros
  dtypes = _dtypes(arrays, correspondence, dtype)
  copies = {name: x for name, x in correspondence.copies.items() if name not in unused}
  for name, other in copies.items():
    shapes[name], dtypes[name] = shapes[other], dtypes[other]
  for name, tensor in unused.items():
    shapes[name], dtypes[name] = tensor.shape, np.dtype(dtype or tensor.dtype)
  return _Plan(shapes, dtypes, copies)


def _export_parameter(
  array: LazyArray,
  keys: Keys,
  correspondence: Correspondence,
  tensors: Mapping[str, Tensor],
) -> None:
  """Writes one parameter into its tensors: one tensor per layer and expert if these are stacked."""
  sizes = correspondence.sizes
  rule_by_index = {place.index: rule for place, rule in correspondence.places[keys]}
  stacked = len(next(iter(rule_by_index)))
  for index in array.chunks():
    values = array.fetch(index)
    for place in np.ndindex(values.shape[:stacked]):
      first = (part.start + i for part, i in zip(index, place, strict=False))
      rule = rule_by_index[tuple(first)]
      _assign(tensors[rule.tensor], rule, sizes, index[stacked:], values[place])


def _assign(
  tensor: Tensor, rule: TensorRule, sizes: Mapping[str, int], index: Index, values: np.ndarray
) -> None:
  """Writes the values that a parameter has at `index` to their place in the tensor."""
  if rule.skip:  # Row 0 of the tensor is row `skip` of the parameter.
    start, stop = index[0].start - rule.skip, index[0].stop - rule.skip
    values = values[max(-start, 0) :]
    index = (slice(max(start, 0), max(stop, 0)), *index[1:])
  view = rule.view(tensor.map(writable=True), sizes)[index]
  piece = piece_shape(view.shape, tensor.dtype.itemsize, int(np.argmax(view.strides)))
  for part in pieces(view.shape, piece):
    scaled = values[part] if rule.factor == 1 else values[part] * values.dtype.type(rule.factor)
    view[part] = cast(scaled, tensor.dtype, rule.tensor)


def _copy(source: Tensor, target: Tensor, name: str) -> None:
  view = target.map(writable=True)
  for part in pieces(view.shape, piece_shape(view.shape, view.itemsize, 0)):
    view[part] = cast(source.map()[part], view.dtype, name)


def _dtypes(
  arrays: Mapping[Keys, LazyArray], correspondence: Correspondence, dtype: str | None
) -> dict[str, np.dtype]:
  """Returns {tensor: dtype} of the tensors that hold parameters."""
  return {
    rule.tensor: np.dtype(dtype or arrays[keys].dtype)
    for keys, parts in correspondence.places.items()
    for _, rule in parts
  }


def _open_parameters(
  step: Path, correspondence: Correspondence, without: str | None
) -> tuple[dict[Keys, LazyArray], list[ReportLine]]:
  """Opens the parameters of a checkpoint, and reports those that are left out.

  Raises:
    UserError: they are not those of the model; then all that differ are named.
  """
  saved = orbax_arrays(step / "state", "params", setting="--from")
  left_out = [name for name in sorted(saved) if without and name.startswith(without)]
  report = [
    ReportLine(name, None, "", "left out: the exported model has no such head") for name in left_out
  ]
  arrays = {tuple(name.split("/")): array for name, array in saved.items() if name not in left_out}
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
  return arrays, report
