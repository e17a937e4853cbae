"""How functions of tf.data datasets run here."""

from __future__ import annotations

from t5x_style.data.tensorflow_setup import tf

# The functions are plain TensorFlow, without `if` or loops on tensors that AutoGraph would rewrite:
# looking for them takes AutoGraph more than half of the time of opening a pipeline.
as_written = tf.autograph.experimental.do_not_convert
# Options of `map`: several threads, results in the order of the elements.
IN_ORDER = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
