"""Imports TensorFlow for all files of t5x_style.data, and leaves the accelerators to JAX.

from t5x_style.data.tensorflow_setup import tf
"""

import contextlib

import tensorflow as tf

__all__ = ["tf"]

# TensorFlow only reads and tokenises text here; by default it would take the accelerators' memory
# from JAX. If the user's program already uses TensorFlow on them, that is the user's choice.
with contextlib.suppress(RuntimeError):
  for _kind in ("GPU", "TPU"):
    tf.config.set_visible_devices([], _kind)
