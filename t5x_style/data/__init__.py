"""The data: text to tokens to corrupted, packed batches; the only room with TensorFlow."""

import contextlib
import os

# Read by TensorFlow while it is imported: no notices, nor that there is no GPU to be hidden below.
# What goes wrong is raised in Python.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

# TensorFlow reads and tokenises text here; left to itself it would take the accelerators' memory
# from JAX. Where the user's program has already put it to work on them, that is their choice.
with contextlib.suppress(RuntimeError):
  for _kind in ("GPU", "TPU"):
    tf.config.set_visible_devices([], _kind)
