"""Classes of rows: the same in any batch, and as a sample of a run shows them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.inference.classification import class_probabilities, labelled_sample
from t5x_style.models import Transformer, TransformerConfig

SIZES = {"vocab_size": 32, "emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 16}
ROWS = [[3, 9, 4], [3, 11, 12, 13, 4], [3] + [17] * 20 + [4]]


@pytest.fixture(scope="module")
def classifier():
  """Returns a model of three classes, its parameters, and the probabilities of ROWS one by one."""
  config = TransformerConfig(**SIZES, num_encoder_layers=2, pooled_classes=3)
  model = Transformer(config)
  params = model.init(jax.random.key(0), {"encoder_input_tokens": jnp.ones((1, 4), int)})["params"]
  each = [
    jax.nn.softmax(
      model.apply({"params": params}, {"encoder_input_tokens": jnp.array([row])}).pooled_logits[0]
    )
    for row in ROWS
  ]
  return model, params, np.array(each)


def test_padding_and_other_rows_change_nothing(classifier):
  model, params, each = classifier
  found = class_probabilities(model, params, ROWS, batch_size=2)
  np.testing.assert_allclose(found, each, rtol=1e-5)


def test_a_sample_shows_labels_and_the_likeliest_ones(classifier):
  model, params, each = classifier
  tokens = np.zeros((4, 24), np.int32)  # The last row is padding.
  for i, row in enumerate(ROWS):
    tokens[i, : len(row)] = row
  weights = np.zeros((4, 24), np.float32)
  weights[:3, 0] = 1
  batch = {
    "encoder_input_tokens": tokens,
    "encoder_loss_weights": weights,
    "pair_labels": np.array([2, 0, 1, 0]),
  }
  to_text = lambda ids: " ".join(str(i) for i in ids if i)
  names = ("red", "green", "blue")
  shown = list(labelled_sample(model, params, batch, to_text, names).values())[1:]
  assert len(shown) == 3
  for text, row, probabilities, label in zip(shown, ROWS, each, (2, 0, 1), strict=True):
    first, truth, says = text.split("\n")
    assert first == to_text(row) and truth == f"truth   {names[label]}"
    order = probabilities.argsort()[::-1]
    assert says == "model   " + "   ".join(f"{names[i]} {probabilities[i]:.0%}" for i in order)
