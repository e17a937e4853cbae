"""Python functions inside tf.data, whose UserErrors come out as they were raised."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from t5x_style.errors import UserError

_MARKED = re.compile(r'<UserError ("(?:[^"\\]|\\.)*")>')


class _MarkedError(ValueError):
  """A UserError on its way through TensorFlow, which keeps nothing of it but its text."""


def call(
  function: Callable[..., Any], arguments: Sequence[Any], types: Sequence[tf.DType]
) -> Sequence[tf.Tensor]:
  """What `function` makes of the values of `arguments`, as part of a dataset's function.

  It has to be a function of its arguments, so that a saved position is one.
  """

  def marked(*values):
    try:
      return function(*values)
    except UserError as error:
      told = json.dumps(str(error))
    # Not from the error, whose traceback TensorFlow would add to the message.
    raise _MarkedError(f"<UserError {told}>")

  return tf.numpy_function(marked, list(arguments), list(types), stateful=False)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
  """Around whatever takes elements from a dataset: errors of reading become UserErrors."""
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
    if isinstance(error, (tf.errors.NotFoundError, tf.errors.PermissionDeniedError)):
      raise UserError(f"a file of the run's data cannot be read: {_first_line(error)}.") from error
    raise


def _first_line(error: tf.errors.OpError) -> str:
  return re.sub(r"^{{.*?}} | \[Op:.*$", "", error.message.strip().splitlines()[0])
