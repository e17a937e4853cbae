"""The report of a conversion: every tensor of the Hugging Face model, and its parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from t5x_style.interop.huggingface.correspondence import Correspondence
from t5x_style.interop.huggingface.model_folder import ModelFolder


@dataclasses.dataclass(frozen=True)
class ReportLine:
  """A tensor of the Hugging Face model, and the parameters that hold it.

  Attributes:
    shape: None where the tensor is left out.
    where: the parameters that hold it, or why it is left out.
  """

  name: str
  shape: tuple[int, ...] | None
  dtype: str
  where: str

  @property
  def size(self) -> int:
    return 0 if self.shape is None else math.prod(self.shape)


def report_parameters(
  correspondence: Correspondence, dtypes: Mapping[str, np.dtype]
) -> list[ReportLine]:
  """Reports every tensor that holds a parameter, or a part of one, in the order of the model."""
  where: dict[str, list[str]] = {}
  for parts in correspondence.places.values():
    for place, rule in parts:
      where.setdefault(rule.tensor, []).append(str(place))
  return [
    ReportLine(name, shape, dtypes[name].name, " + ".join(where[name]))
    for name, shape in correspondence.tensors.items()
  ]


def report_import(source: ModelFolder) -> list[ReportLine]:
  """Reports what an import of the folder reads, and what it leaves out."""
  dtypes = {name: tensor.dtype for name, tensor in source.tensors.items()}
  lines = report_parameters(source.correspondence, dtypes)
  for name, reason in source.left_out.items():
    kept = "; kept to be exported again" if name in source.unused else ""
    lines.append(ReportLine(name, None, "", f"left out: {reason}{kept}"))
  return lines
