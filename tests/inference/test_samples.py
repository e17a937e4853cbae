"""The sample at the end of a run, on rows of several lengths."""

import jax
import numpy as np
import pytest

from t5x_style.inference.samples import sample
from t5x_style.models import Transformer, TransformerConfig

LAYERS = {
  "decoder_only": {"num_decoder_layers": 1},
  "encoder_decoder": {"num_encoder_layers": 1, "num_decoder_layers": 1},
  "encoder_only": {"num_encoder_layers": 1},
}


@pytest.mark.parametrize("architecture", LAYERS)
def test_rows_as_long_as_the_learned_positions(architecture):
  """GPT-2's rows of 1,024 tokens leave no position for a continuation beyond them."""
  config = TransformerConfig(
    vocab_size=32,
    emb_dim=8,
    num_heads=1,
    head_dim=8,
    mlp_dim=8,
    positions="learned",
    max_length=7,
    **LAYERS[architecture],
  )
  model = Transformer(config)
  for length in (1, 2, 6, 7):
    tokens = np.arange(3, 3 + length)[None]
    sides = {"encoder_only": ["encoder"], "decoder_only": ["decoder"]}
    batch = {
      f"{side}_{name}_tokens": tokens
      for side in sides.get(architecture, ["encoder", "decoder"])
      for name in ("input", "target")
    }
    batch["encoder_loss_weights"] = np.ones_like(tokens, np.float32)
    params = model.init(jax.random.key(0), batch)["params"]
    texts = sample(model, params, batch, lambda ids: " ".join(map(str, ids)))
    given, written, truth = (text.split() for text in texts.values())
    if architecture == "decoder_only":  # The continuation ends with the last position.
      assert (len(given), len(written)) == (length // 2, 7 - length // 2)
      assert [*given, *truth] == [str(token) for token in tokens[0]]
    else:
      assert truth == [str(token) for token in tokens[0]]
      assert len(written) == length
