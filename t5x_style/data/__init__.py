"""Data: text to tokens to corrupted batches; the only part of the package that uses TensorFlow."""

import contextlib
import os

# TensorFlow reads it while it is imported: no notices, and no warning that there is no GPU to hide.
# Errors are raised in Python.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

# TensorFlow only reads and tokenises text here; by default it would take the accelerators' memory
# from JAX. If the user's program already uses TensorFlow on them, that is the user's choice.
with contextlib.suppress(RuntimeError):
  for _kind in ("GPU", "TPU"):
    tf.config.set_visible_devices([], _kind)
