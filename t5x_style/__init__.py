"""Pre-training of encoder-decoder, decoder-only and encoder-only Transformers in JAX and Flax.

`t5x_style.load(PATH)` loads a trained model; see t5x_style/trained/loading.py.
"""


def __getattr__(name):
  if name != "load":
    raise AttributeError(f"module 't5x_style' has no attribute {name!r}")
  # Imported when it is used, so that a part of the package can be imported without JAX.
  from t5x_style.trained.loading import load

  return load
