"""Data: text to tokens to corrupted batches; the only part of the package that uses TensorFlow.

Importing it loads no TensorFlow: a run on a token cache needs none. What the stream of SeqIO needs
takes it from tensorflow_setup.py.
"""

import os

# TensorFlow reads it while it is imported: no notices, and no warning that there is no GPU to hide.
# Errors are raised in Python.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
