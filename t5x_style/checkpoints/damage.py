"""Errors of damaged checkpoints."""

import contextlib
from collections.abc import Iterator

from t5x_style.errors import UserError, first_line


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
  except Exception as error:
    raise UserError(f"{label}: {first_line(error)}{advice}") from error
