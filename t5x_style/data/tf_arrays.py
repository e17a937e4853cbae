"""The operations of arrays.py on TensorFlow's tensors; inside the functions of datasets, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from t5x_style.data.tensorflow_setup import tf

Array = Any  # tf.Tensor, whose type mypy does not know

minimum, maximum, where, round, ceil = tf.minimum, tf.maximum, tf.where, tf.round, tf.math.ceil
sqrt, log, cos = tf.sqrt, tf.math.log, tf.cos
bitcast, zeros_like, ones_like, arange, size = (
  tf.bitcast,
  tf.zeros_like,
  tf.ones_like,
  tf.range,
  tf.size,
)
cast = tf.cast


def right_shift(x: Array, bits: int) -> Array:
  return tf.bitwise.right_shift(x, tf.constant(np.uint64(bits)))


def sum(x: Array) -> Array:
  return tf.reduce_sum(x, axis=-1)


def max(x: Array) -> Array:
  return tf.reduce_max(x, axis=-1)


def any(x: Array) -> Array:
  return tf.reduce_any(x, axis=-1)


def cumsum(x: Array, exclusive: bool = False) -> Array:
  return tf.cumsum(x, axis=-1, exclusive=exclusive)


def sort(x: Array) -> Array:
  return tf.sort(x, axis=-1)


def argsort(x: Array) -> Array:
  return tf.argsort(x, axis=-1, stable=True)


def largest(x: Array, k: int) -> Array:
  return tf.math.top_k(x, k=k).values


def first_equal(x: Array) -> Array:
  return tf.searchsorted(x, x, side="left")


def searchsorted(ascending: Array, values: Array, side: Any = "left") -> Array:
  found = tf.searchsorted(ascending, tf.reshape(values, [-1]), side=side)
  return tf.reshape(found, tf.shape(values))


def take(table: Any, indices: Array) -> Array:
  return tf.gather(table, indices)


def take_along(x: Array, indices: Array) -> Array:
  return tf.gather(x, indices, batch_dims=1)


def scatter_add(columns: Array, values: Array, width: int) -> Array:
  rows = tf.shape(columns)[0]
  inside = (columns >= 0) & (columns < width)
  flat = tf.where(inside, tf.range(rows)[:, None] * width + columns, -1)
  summed = tf.math.unsorted_segment_sum(values, flat, rows * width)
  return tf.ensure_shape(tf.reshape(summed, [rows, width]), [None, width])


def select(x: Array, mask: Array) -> Array:
  return tf.boolean_mask(x, mask)


def indices(mask: Array) -> Array:
  return tf.cast(tf.where(mask)[:, 0], tf.int32)


def concat(parts: Sequence[Array]) -> Array:
  return tf.concat(parts, axis=-1)


def pad(x: Array, before: int, after: Array, value: int = 0) -> Array:
  widths = [[0, 0]] * (len(x.shape) - 1) + [[before, after]]
  return tf.pad(x, widths, constant_values=value)


def interleave(x: Array, y: Array) -> Array:
  return tf.reshape(tf.stack([x, y], axis=2), [tf.shape(x)[0], 2 * x.shape[1]])


def in_rows(x: Array, length: int) -> Array:
  return tf.reshape(x, [-1, length])


def flat(x: Array) -> Array:
  return tf.reshape(x, [-1])


def shaped(x: Array, like: Array) -> Array:
  return tf.reshape(x, tf.shape(like))


def filled(like: Array, columns: int, value: int | bool | float) -> Array:
  return tf.fill([tf.shape(like)[0], columns], value)


def index_of(names: Sequence[str], text: Array) -> Array:
  return tf.argmax(tf.constant(names) == text, output_type=tf.int32)


def code_points(pieces: np.ndarray, indices: Array) -> tuple[Array, Array]:
  text = tf.strings.reduce_join(tf.gather(tf.constant(pieces, tf.string), indices))
  characters, starts = tf.strings.unicode_decode_with_offsets(text, "UTF-8")
  return characters, tf.cast(starts, tf.int32)
