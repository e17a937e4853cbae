"""Mistakes of a person, and the names nearest to a misspelt one."""

import pytest

from launch.configuration import errors
from launch.configuration.errors import ConfigurationError, did_you_mean, nearest
from t5x_style.errors import UserError


def test_mistakes_found_while_setting_up():
  for error in (UserError("bad"), OSError(13, "Permission denied", "/data/x"), OSError(28, "full")):
    with pytest.raises(ConfigurationError, match="bad|Permission denied: '/data/x'|full"):
      with errors.as_configuration_errors():
        raise error


def test_faults_found_while_setting_up_keep_their_traceback():
  """Those of JAX, Orbax and TensorFlow, and our own."""
  for error in (ValueError("shapes"), OSError("No metadata found"), TypeError("no")):
    with pytest.raises(type(error)) as caught, errors.as_configuration_errors():
      raise error
    assert caught.value is error


def test_the_trail_of_calls_gin_appends_is_cut():
  message = (
    "BATCH_SIZE = 3 does not divide\n  In call to configurable 'Run' (<class 'x.Run'>)"
    "\n  In call to configurable 'train' (<function f at 0x1>) in scope 'a'"
  )
  assert errors.plain_message(ValueError(message)) == "BATCH_SIZE = 3 does not divide"


def test_nearest():
  assert nearest("train_step", ["TRAIN_STEPS", "batch_size"]) == ["TRAIN_STEPS"]
  assert did_you_mean("xyzzy", ["a"]) == ""
  assert did_you_mean("colr", ["color", "colour"]) == " Did you mean 'color' or 'colour'?"
