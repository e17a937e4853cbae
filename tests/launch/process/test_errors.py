"""Which errors become configuration errors, and the names nearest to a misspelt one."""

import pytest

from launch.process import errors
from launch.process.errors import ConfigurationError, did_you_mean, nearest
from t5x_style.errors import StorageError, UserError


def test_what_a_user_can_fix_is_a_configuration_error():
  for error in (UserError("bad"), OSError(13, "Permission denied", "/data/x")):
    with pytest.raises(
      ConfigurationError, match="^(bad|'/data/x' cannot be used: Permission denied.)$"
    ):
      with errors.as_configuration_errors():
        raise error


def test_a_full_disk_is_no_mistake():
  for error in (OSError(28, "full"), OSError(28, "full", "/data/x"), StorageError("room: full")):
    with pytest.raises(StorageError, match="room( for '/data/x' \\(full\\)|: full| \\(full\\))"):
      with errors.as_configuration_errors():
        raise error


def test_other_errors_keep_their_traceback():
  """Errors of JAX, Orbax and TensorFlow, and bugs of this package."""
  for error in (ValueError("shapes"), OSError("No metadata found"), TypeError("no")):
    with pytest.raises(type(error)) as caught, errors.as_configuration_errors():
      raise error
    assert caught.value is error


def test_the_calls_that_gin_lists_are_removed():
  message = (
    "BATCH_SIZE = 3 does not divide\n  In call to configurable 'Run' (<class 'x.Run'>)"
    "\n  In call to configurable 'train' (<function f at 0x1>) in scope 'a'"
  )
  assert errors.plain_message(ValueError(message)) == "BATCH_SIZE = 3 does not divide"


def test_nearest():
  assert nearest("train_step", ["TRAIN_STEPS", "batch_size"]) == ["TRAIN_STEPS"]
  assert did_you_mean("xyzzy", ["a"]) == ""
  assert did_you_mean("colr", ["color", "colour"]) == " Did you mean 'color' or 'colour'?"
