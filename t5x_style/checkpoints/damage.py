"""Errors of damaged checkpoints, and which errors say that a checkpoint is damaged."""

import contextlib
import errno
import re
from collections.abc import Iterator

import jax

from t5x_style.errors import UserError, first_line

# What the system says about files that are missing or are no files. Any other error of the system
# (no permission, no memory, a disk or network in trouble) says nothing about what is stored.
_DAMAGED_FILES = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
# TensorStore raises ValueErrors with the kind of the error, and the number if it is the system's.
_SYSTEM_ERROR = re.compile(r"os_error_code='(\d+)'")
_REFUSED = re.compile("PERMISSION_DENIED|UNAUTHENTICATED")
_TROUBLE = re.compile(
  f"{_REFUSED.pattern}|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|CANCELLED|ABORTED"
)
# Small files in buckets are read with one of these. All their errors are trouble; a file that is
# missing is a FileNotFoundError.
_BUCKET_READERS = ("gcsfs", "s3fs", "fsspec", "aiohttp", "google", "botocore")


class DamagedError(Exception):
  """A checkpoint is not what was saved; the message is the reason, as in "its folder is empty"."""


@contextlib.contextmanager
def damage_of(part: str) -> Iterator[None]:
  """Turns every error that says so into a DamagedError: "`part` cannot be read"."""
  try:
    yield
  except Exception as error:
    if isinstance(error, DamagedError) or not means_damage(error):
      raise
    raise DamagedError(f"{part} cannot be read ({_detail(error)})") from error


@contextlib.contextmanager
def trouble_is_explained(what: str) -> Iterator[None]:
  """Turns errors that say nothing about damage into "`what`, and nothing was changed: ...".

  Raises:
    UserError: a permission is missing.
    RuntimeError: other trouble, for example of the disk or the network.
  """
  try:
    yield
  except (UserError, DamagedError):
    raise
  except Exception as error:
    text = f"{what}, and nothing was changed: {_detail(error)}."
    if any(isinstance(x, PermissionError) or _REFUSED.search(_text(x)) for x in _causes(error)):
      raise UserError(f"{text} Give this user the permission.") from error
    raise RuntimeError(text) from error


def means_damage(error: BaseException) -> bool:
  """Returns whether an error of reading a checkpoint says that the checkpoint is damaged."""
  return not any(map(_is_trouble, _causes(error)))


def _is_trouble(error: BaseException) -> bool:
  if isinstance(error, OSError):
    return error.errno not in _DAMAGED_FILES and not isinstance(error, FileNotFoundError)
  if isinstance(error, (UserError, MemoryError, jax.errors.JaxRuntimeError)):
    return True
  if type(error).__module__.partition(".")[0] in _BUCKET_READERS:
    return True
  if number := _SYSTEM_ERROR.search(str(error)):
    return int(number[1]) not in _DAMAGED_FILES
  return bool(_TROUBLE.search(_text(error)))


def _text(error: BaseException) -> str:
  """Returns the message after the kind of the error, which TensorFlow has only in its class.

  tf.errors.DeadlineExceededError is DEADLINE_EXCEEDED.
  """
  kind = type(error).__name__.removesuffix("Error")
  return f"{re.sub('(?<=[a-z])(?=[A-Z])', '_', kind).upper()}: {error}"


def _detail(error: BaseException) -> str:
  """Returns one line about an error: Orbax raises a plain Exception from the one that says more."""
  return first_line(list(_causes(error))[-1]).partition(" [tensorstore")[0]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  """Yields an error, the one that caused it, and so on."""
  while error is not None:
    yield error
    error = error.__cause__


@contextlib.contextmanager
def damage_is_named(label: str, advice: str = "") -> Iterator[None]:
  """Turns every error but a UserError, which is clear already, into one that names a checkpoint.

  Args:
    label: the beginning of the message: which checkpoint it is.
    advice: its end.
  """
  try:
    yield
  except UserError:
    raise
  except DamagedError as error:
    raise UserError(f"{label}: {error}{advice}") from error
  except Exception as error:
    raise UserError(f"{label}: {first_line(error)}{advice}") from error
