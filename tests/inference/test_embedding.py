"""Vectors of rows in a batch are those of each row alone."""

import numpy as np
import pytest

from t5x_style.inference.embedding import embed
from t5x_style.models import Transformer


@pytest.mark.parametrize(
  "architecture",
  [
    "decoder_only",
    *(pytest.param(x, marks=pytest.mark.slow) for x in ("encoder_only", "encoder_decoder")),
  ],
)
def test_vectors_are_those_of_each_row_alone(architecture, tiny_model, random_rows):
  model, params = tiny_model(architecture)
  rows = random_rows([3, 20, 1, 17])
  side = "decoder" if architecture == "decoder_only" else "encoder"
  for pooling, pool in {
    "mean": lambda x: x.mean(0),
    "first": lambda x: x[0],
    "last": lambda x: x[-1],
  }.items():
    found = embed(model, params, rows, pooling, batch_size=3)
    for row, vector in zip(rows, found, strict=True):
      states = model.apply(
        {"params": params},
        {f"{side}_input_tokens": np.array([row], np.int32)},
        method=Transformer.hidden_states,
      )
      np.testing.assert_allclose(vector, pool(np.asarray(states[0])), rtol=1e-4, atol=1e-5)


def test_states_are_those_that_the_head_reads(tiny_model):
  model, params = tiny_model("decoder_only", scale_logits=False)
  batch = {"decoder_input_tokens": np.array([[7, 8, 9]], np.int32)}
  states = model.apply({"params": params}, batch, method=Transformer.hidden_states)
  np.testing.assert_array_equal(states, model.apply({"params": params}, batch).hidden)
