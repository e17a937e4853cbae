"""Decoding with a cache against the full model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.inference.decoding import decode
from t5x_style.models import Transformer, TransformerConfig

SIZES = {"vocab_size": 48, "emb_dim": 32, "num_heads": 4, "head_dim": 8, "mlp_dim": 48}
FAMILIES = {
  "t5": {"num_encoder_layers": 2, "num_decoder_layers": 2},
  "llama": {"num_decoder_layers": 2, "positions": "rotary", "num_kv_heads": 2},
  "local": {"num_decoder_layers": 3, "positions": "rotary", "attention_windows": (2, None)},
  # The cap is so low that float32 rounds many logits to it; the largest has to be chosen anyway.
  "gpt2": {
    "num_decoder_layers": 2,
    "positions": "learned",
    "scan_layers": False,
    "logit_soft_cap": 0.01,
  },
}


def build(family):
  model = Transformer(TransformerConfig(**SIZES, **FAMILIES[family]))
  batch = {"decoder_input_tokens": jnp.ones((2, 10), jnp.int32)}
  if family == "t5":
    batch["encoder_input_tokens"] = jnp.array([[5, 6, 7, 8, 9], [10, 11, 12, 0, 0]])
  return model, jax.jit(model.init)(jax.random.key(4), batch)["params"], batch


@pytest.mark.parametrize(
  "family",
  ["llama", "gpt2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("t5", "local"))],
)
def test_cached_decoding_writes_what_the_full_model_would(family):
  """Every greedy token is the argmax of the model run on the whole sequence before it."""
  model, params, batch = build(family)
  prompt = jnp.array([[3, 4, 0], [7, 0, 0]])
  written = decode(
    model, params, prompt, length=10, encoder_tokens=batch.get("encoder_input_tokens")
  )
  shifted = jnp.pad(written, ((0, 0), (1, 0)))[:, :10]
  whole = {**batch, "decoder_input_tokens": shifted}
  logits = jax.jit(lambda batch: model.apply({"params": params}, batch).logits())(whole)
  best = np.asarray(logits.at[..., 0].set(-jnp.inf).argmax(-1))
  given = np.pad(np.asarray(prompt), ((0, 0), (0, 7)))
  for row in range(2):
    ended = False
    for i in range(10):
      expected = 0 if ended else given[row, i] or best[row, i]
      assert written[row, i] == expected
      ended = ended or (expected == 1 and not given[row, i])


def test_sampling_follows_the_distribution_of_the_top_k():
  model, params, _ = build("llama")
  prompt = jnp.zeros((4000, 0), jnp.int32)
  drawn = decode(model, params, prompt, length=1, rng=jax.random.key(0), temperature=1.0, top_k=3)[
    :, 0
  ]
  first = model.apply({"params": params}, {"decoder_input_tokens": jnp.zeros((1, 1), jnp.int32)})
  logits = first.logits()[0, 0].at[0].set(-jnp.inf)
  values, ids = jax.lax.top_k(logits, 3)
  shares = np.array([(drawn == i).mean() for i in ids])
  assert shares.sum() == pytest.approx(1.0)
  np.testing.assert_allclose(shares, jax.nn.softmax(values), atol=0.03)  # 4 sigma of 4,000 draws
