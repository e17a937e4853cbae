"""Vectors of texts: which states, of which rows."""

import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.models import Transformer
from t5x_style.trained.embedding import embed
from tests.trained.random_models import trained


def states(model, side, row):
  batch = {f"{side}_input_tokens": np.array([row], np.int32)}
  return np.asarray(
    model.model.apply({"params": model.params}, batch, method=Transformer.hidden_states)[0]
  )


def test_each_architecture_has_its_vector():
  text = "import os"
  decoder = trained("decoder_only", "causal_lm")
  ids = decoder.codec.encode(text)
  found = embed(decoder, [text, "def f(x): return x"])
  assert found.shape == (2, 32) and found.dtype == np.float32
  np.testing.assert_allclose(found[0], states(decoder, "decoder", [0, *ids])[-1], atol=1e-5)

  both = trained("encoder_decoder", "span_corruption")
  expected = states(both, "encoder", [*ids, 1]).mean(0)
  np.testing.assert_allclose(embed(both, text)[0], expected, atol=1e-5)

  encoder = trained("encoder_only", "masked_lm")
  cls, sep = (encoder.codec.special_id(x) for x in ("[CLS]", "[SEP]"))
  rows = states(encoder, "encoder", [cls, *ids, sep])
  np.testing.assert_allclose(embed(encoder, text)[0], rows.mean(0), atol=1e-5)
  np.testing.assert_allclose(embed(encoder, text, pooling="last")[0], rows[-1], atol=1e-5)

  pooled = trained("encoder_only", "next_sentence", pooled_classes=2)
  rows = states(pooled, "encoder", [cls, *ids, sep])
  np.testing.assert_allclose(embed(pooled, text)[0], rows[0], atol=1e-5)


def test_mistakes():
  model = trained("encoder_only", "masked_lm", positions="learned", max_length=8)
  with pytest.raises(UserError, match=r"texts\[1\]: The text is empty"):
    embed(model, ["a", ""])
  with pytest.raises(UserError, match="too long: it has 22 tokens .* has 8 learned positions"):
    embed(model, ["0 " * 10])
  with pytest.raises(UserError, match="pooling = 'max' is not one of mean, first, last"):
    embed(model, ["a"], pooling="max")
