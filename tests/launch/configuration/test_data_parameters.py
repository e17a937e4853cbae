"""The names of parameters that are not imported are names of parameters."""

import importlib
import inspect

import pytest

from launch.configuration import data_parameters


@pytest.mark.parametrize("constant", [x for x in vars(data_parameters) if x.isupper()])
def test_named_parameters_exist(constant):
  module, function, parameter = getattr(data_parameters, constant).rsplit(".", 2)
  target = getattr(importlib.import_module(module), function)
  assert parameter in inspect.signature(target).parameters
