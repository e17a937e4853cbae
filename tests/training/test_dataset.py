"""Lengths and microbatches, from the shapes of a batch."""

import jax
import numpy as np

from t5x_style.training.dataset import microbatch_shapes, tokens_per_row

FEATURES = {
  "encoder_input_tokens": jax.ShapeDtypeStruct((8, 512), np.int32),
  "decoder_input_tokens": jax.ShapeDtypeStruct((8, 114), np.int32),
  "decoder_loss_weights": jax.ShapeDtypeStruct((8, 114), np.float32),
  "pair_labels": jax.ShapeDtypeStruct((8,), np.int32),
}


def test_tokens_of_each_side_of_the_model():
  assert tokens_per_row(FEATURES) == {"encoder_length": 512, "decoder_length": 114}
  del (only_decoder := dict(FEATURES))["encoder_input_tokens"]
  assert tokens_per_row(only_decoder) == {"decoder_length": 114}


def test_a_microbatch_has_a_part_of_the_rows():
  shapes = {name: (x.shape, x.dtype.name) for name, x in microbatch_shapes(FEATURES, 4).items()}
  assert shapes == {
    "encoder_input_tokens": ((2, 512), "int32"),
    "decoder_input_tokens": ((2, 114), "int32"),
    "decoder_loss_weights": ((2, 114), "float32"),
    "pair_labels": ((2,), "int32"),
  }
