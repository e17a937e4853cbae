"""Numbers in another dtype, refused where it cannot hold them."""

import numpy as np

from t5x_style.errors import UserError


def cast(values: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
  """Returns the values in another dtype, contiguous in memory.

  Args:
    name: the tensor they are from, for the message.

  Raises:
    UserError: float16 cannot hold them.
  """
  with np.errstate(over="ignore"):
    out = np.ascontiguousarray(values, dtype)
  if dtype == np.float16 and not np.isfinite(out).all() and np.isfinite(values).all():
    raise UserError(f"{name} holds numbers too large for float16; use --dtype=bfloat16.")
  return out
