"""Numbers in another dtype."""

import ml_dtypes
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.interop.huggingface.casting import cast

LARGE = np.array([[1.0, 70_000.0], [2.0, 3.0]], np.float32)


def test_what_float16_cannot_hold_is_refused():
  with pytest.raises(UserError, match="a.weight holds numbers too large for float16"):
    cast(LARGE, np.dtype(np.float16), "a.weight")
  found = cast(LARGE, np.dtype(ml_dtypes.bfloat16), "a.weight")
  np.testing.assert_allclose(found.astype(np.float32), LARGE, rtol=2**-8)


def test_the_result_is_contiguous():
  assert cast(LARGE.T, LARGE.dtype, "a").flags.c_contiguous
