"""Which errors say that a checkpoint is damaged, and which say nothing about it."""

import errno
import json
import os

import jax
import pytest
import tensorflow as tf
import tensorstore as ts

from t5x_style.checkpoints.damage import (
  DamagedError,
  damage_is_named,
  damage_of,
  means_damage,
  trouble_is_explained,
)
from t5x_style.errors import UserError

_REFUSED = "PERMISSION_DENIED: Failed to open: Permission denied [os_error_code='13']"


@pytest.mark.parametrize(
  "error",
  [
    FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)),
    NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)),
    json.JSONDecodeError("Expecting value", "", 0),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    AttributeError("'list' object has no attribute 'get'"),
    KeyError("tree_metadata"),
    ValueError('NOT_FOUND: Metadata at "step/.zarray" does not exist'),
    ValueError("OUT_OF_RANGE: Requested byte range is not valid"),
    tf.errors.DataLossError(None, None, "the place in the data is corrupted"),
  ],
)
def test_errors_about_what_is_stored(error):
  assert means_damage(error)
  with pytest.raises(DamagedError, match="^state/ cannot be read \\("), damage_of("state/"):
    raise error


@pytest.mark.parametrize(
  "error",
  [
    PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    OSError(errno.EIO, os.strerror(errno.EIO)),
    OSError(errno.ESTALE, os.strerror(errno.ESTALE)),
    OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    OSError("the bucket does not answer"),
    TimeoutError(),
    MemoryError(),
    UserError("checkpoints of another run"),
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
    ValueError(_REFUSED),
    ValueError("UNAVAILABLE: Error reading from the bucket"),
    tf.errors.UnavailableError(None, None, "Error executing an HTTP request"),
    tf.errors.DeadlineExceededError(None, None, "Error executing an HTTP request"),
    tf.errors.PermissionDeniedError(None, None, "HTTP response code 403"),
    type("HttpError", (Exception,), {"__module__": "gcsfs.retry"})("503"),
  ],
)
def test_errors_that_say_nothing_about_it_stay_what_they_are(error):
  assert not means_damage(error)
  with pytest.raises(type(error)) as raised, damage_of("state/"):
    raise error
  assert raised.value is error


def test_the_cause_of_an_error_counts():
  """Orbax raises a plain Exception from the error of TensorStore."""
  wrapper = Exception("Encountered error while reading array index")
  wrapper.__cause__ = ValueError(_REFUSED)
  assert not means_damage(wrapper)
  wrapper.__cause__ = ValueError("DATA_LOSS: checksum [tensorstore_spec='...']")
  with pytest.raises(DamagedError, match=r"read \(ValueError: DATA_LOSS: checksum\)$"):
    with damage_of("state/"):
      raise wrapper


def test_tensorstore_names_the_error_of_the_system(tmp_path):
  """Here of a file that is a link to itself."""
  (tmp_path / ".zarray").symlink_to(tmp_path / ".zarray")
  with pytest.raises(ValueError, match=r"os_error_code='40'") as error:
    ts.open({"driver": "zarr", "kvstore": f"file://{tmp_path}/"}, open=True).result()
  assert means_damage(error.value)


def test_damage_is_named_with_its_reason():
  with pytest.raises(UserError, match=r"^The mean: state/ is missing\.$"):
    with damage_is_named("The mean", "."):
      raise DamagedError("state/ is missing")


def test_trouble_is_explained_in_one_line():
  wrapper = Exception("Encountered error while reading array index")
  for cause, kind, end in (
    (ValueError(_REFUSED), UserError, r"Give this user the permission\.$"),
    (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), UserError, "permission"),
    (OSError(errno.EIO, os.strerror(errno.EIO)), RuntimeError, r"Input/output error\.$"),
  ):
    wrapper.__cause__ = cause
    with pytest.raises(kind, match=f"^It cannot be read, and nothing was changed: .*{end}"):
      with trouble_is_explained("It cannot be read"):
        raise wrapper
  for clear in (DamagedError("state/ is missing"), UserError("another run")):
    with pytest.raises(type(clear)) as raised, trouble_is_explained("It cannot be read"):
      raise clear
    assert raised.value is clear
