"""Python functions inside tf.data; their UserErrors are raised again outside of it, unchanged."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from t5x_style.data.tensorflow_setup import tf
from t5x_style.errors import UserError

# What TensorFlow says of a disk or a file server that fails, in an UnknownError.
_DISK_REASONS = [
  f"; {os.strerror(code)}" for code in (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT)
]
_MARKED = re.compile(r'<UserError ("(?:[^"\\]|\\.)*")>')


class _MarkedError(ValueError):
  """A UserError on its way through TensorFlow, which keeps only the text of an error."""


def call(
  function: Callable[..., Any], arguments: Sequence[Any], types: Sequence[tf.DType]
) -> Sequence[tf.Tensor]:
  """Calls `function` with the values of `arguments`, inside the function of a dataset.

  The result must depend on the arguments only; otherwise saved positions would not be exact.
  """

  def marked(*values):
    try:
      return function(*values)
    except UserError as error:
      message = json.dumps(str(error))
    # Raised outside of `except`: TensorFlow would add the traceback of the cause to the message.
    raise _MarkedError(f"<UserError {message}>")

  return tf.numpy_function(marked, list(arguments), list(types), stateful=False)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
  """Turns errors of reading into UserErrors; for code that takes elements from a dataset."""
  try:
    yield
  except tf.errors.OpError as error:
    if marked := _MARKED.search(str(error)):
      raise UserError(json.loads(marked.group(1))) from error
    if isinstance(error, tf.errors.DataLossError):
      raise UserError(
        f"a file of records that the run reads is damaged ({_first_line(error)}). Get or prepare "
        "the dataset again; a text cache (T5X_STYLE_CACHE) is written again once it is deleted."
      ) from error
    unreadable = isinstance(error, (tf.errors.NotFoundError, tf.errors.PermissionDeniedError))
    if unreadable or any(reason in str(error) for reason in _DISK_REASONS):
      raise UserError(
        f"a file of the run's data cannot be read: {_first_line(error)}. Correct "
        "that, and start the same command again: it resumes from its newest checkpoint."
      ) from error
    raise


def _first_line(error: tf.errors.OpError) -> str:
  return re.sub(r"^{{.*?}} | \[Op:.*$", "", error.message.strip().splitlines()[0])
