"""Loads the model that an action measures: a MODEL_DIR, one of its steps, or hf:FOLDER."""

from __future__ import annotations

from typing import Any

import t5x_style
from t5x_style.trained.model import TrainedModel

from ..checkpoints import steps
from ..process.errors import ConfigurationError
from . import settings_text


def load(path: str, values: Any) -> TrainedModel:
  """Loads a model.

  Args:
    path: as t5x_style.load takes it.
    values: of the flags; --step may name one step, --mesh the devices.

  Raises:
    ConfigurationError: --step names several, or --mesh is no shape.
    UserError: as t5x_style.load.
  """
  numbers = steps.numbers(values)
  if len(numbers) > 1:
    raise ConfigurationError("One checkpoint is measured at a time; give one --step.")
  mesh = settings_text.mapping("mesh", values.mesh, '{"data": 2}')
  return t5x_style.load(path, step=numbers[0] if numbers else None, mesh_shape=mesh)
