"""NumPy and TensorFlow give the same bits, shapes and dtypes."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data import arrays, numpy_arrays, tf_arrays
from t5x_style.data.tensorflow_setup import tf

INTEGERS = np.array([[3, 0, 3, 9], [7, 7, 1, 0]], np.int32)
ASCENDING = np.sort(INTEGERS, axis=1)
MASK = INTEGERS > 2
REAL = np.array([[0.5, -2.5, 1.5], [2.0, 3.7, 0.0]])
LONG = np.arange(6, dtype=np.int64).reshape(2, 3) << 40
# For each operation the arguments of one call or of several.
CALLS = {
  "cast": [(REAL, np.int32), (MASK, np.float32), (INTEGERS, np.uint64), ([3], np.int32)],
  "bitcast": [(LONG - 1, np.uint64)],
  "right_shift": [(LONG.astype(np.uint64), 40)],
  "where": [(MASK, INTEGERS, 0), (MASK, 1.5, REAL.astype(np.float32)[:, :1])],
  "minimum": [(INTEGERS, 4), (4, INTEGERS)],
  "maximum": [(INTEGERS, INTEGERS[:1])],
  "round": [(REAL,)],
  "ceil": [(REAL,)],
  "sqrt": [(np.float32([0, 2, 3]),)],
  "log": [(np.float32([0.25, 0.7, 1, 0.1, 0.9, 2.0**-24, 0.5, 0.6]),)],
  "cos": [(np.float32([0, 0.1, 1.6, 2.5, 3.2, 4.7, 5.5, 6.28]),)],
  "sum": [(INTEGERS,), (REAL,), (LONG.astype(np.uint64),)],
  "max": [(INTEGERS,)],
  "any": [(MASK,)],
  "cumsum": [(INTEGERS,), (INTEGERS, True), (REAL,)],
  "sort": [(INTEGERS,)],
  "argsort": [(INTEGERS,), (REAL,)],
  "largest": [(LONG, 0), (LONG, 1), (LONG, 3)],
  "first_equal": [(ASCENDING,)],
  "searchsorted": [(ASCENDING[0], INTEGERS), (ASCENDING[0], INTEGERS, "right")],
  "take": [(REAL[0], INTEGERS % 3), (np.array([5, 6, 7], np.int32), INTEGERS % 3)],
  "take_along": [(REAL, INTEGERS % 3)],
  "scatter_add": [(INTEGERS - 2, INTEGERS, 4), (INTEGERS, MASK.astype(np.float32), 3)],
  "select": [(INTEGERS[0], MASK[0])],
  "indices": [(MASK[0],)],
  "concat": [([INTEGERS, INTEGERS[:, :1]],), ([INTEGERS[0], INTEGERS[1]],)],
  "pad": [(INTEGERS, 1, 2), (INTEGERS[0], 0, 1, 5), (MASK, 1, 0)],
  "interleave": [(INTEGERS, -INTEGERS)],
  "in_rows": [(INTEGERS[0], 2)],
  "flat": [(INTEGERS,)],
  "shaped": [(INTEGERS, INTEGERS.T)],
  "filled": [(INTEGERS, 3, 7), (INTEGERS, 1, True), (INTEGERS, 0, 0), (INTEGERS, 2, 0.5)],
  "zeros_like": [(INTEGERS,)],
  "ones_like": [(MASK,)],
  "arange": [(np.int32(4),)],
  "size": [(INTEGERS,)],
  "index_of": [(("red", "green"), b"green")],
  "code_points": [
    (np.array([b"a\xc3", b"\xa4\xe4\xb8", b"\xf0\x9f\x99\x82"], object), INTEGERS[0] % 3)
  ],
}


def tensors(value):
  if isinstance(value, list) and isinstance(value[0], np.ndarray):
    return [tensors(x) for x in value]
  return tf.constant(value) if isinstance(value, np.ndarray) and value.dtype != object else value


@pytest.mark.parametrize("name", CALLS)
def test_both_have_the_operation_and_give_the_same(name):
  for arguments in CALLS[name]:
    one = getattr(numpy_arrays, name)(*arguments)
    other = getattr(tf_arrays, name)(*map(tensors, arguments))
    pairs = zip(one, other, strict=True) if isinstance(one, tuple) else [(one, other)]
    for x, y in pairs:
      assert name == "size" or x.dtype == y.numpy().dtype
      np.testing.assert_array_equal(x, y.numpy())


def test_all_operations_are_compared():
  text = Path(arrays.__file__).read_text()
  assert re.findall(r"^  def (\w+)\(self", text, re.M) == list(CALLS)


def test_the_arrays_say_whose_operations_these_are():
  assert arrays.of(INTEGERS, 3, b"text") is numpy_arrays
  assert arrays.of(INTEGERS, tf.constant(1)) is tf_arrays


def test_logarithm_and_cosine_have_the_bits_of_tensorflow():
  """Of every draw of noise.uniform in 64; and they are right."""
  draws = np.arange(2**24, dtype=np.int32)[:: 2**6].astype(np.float32) * np.float32(2.0**-24)
  for function, values in (("log", 1 - draws), ("cos", np.float32(2 * np.pi) * draws)):
    found = getattr(numpy_arrays, function)(values)
    np.testing.assert_array_equal(found, getattr(tf_arrays, function)(tf.constant(values)).numpy())
    np.testing.assert_allclose(
      found, getattr(np, function)(values.astype(np.float64)), rtol=3e-7, atol=3e-7
    )


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=12))
def test_characters_of_any_bytes(pieces):
  indices = np.arange(len(pieces), dtype=np.int32)
  found = numpy_arrays.code_points(np.array(pieces, object), indices)
  wanted = tf_arrays.code_points(np.array(pieces, object), tf.constant(indices))
  for one, other in zip(found, wanted, strict=True):
    assert one.tolist() == other.numpy().tolist()
