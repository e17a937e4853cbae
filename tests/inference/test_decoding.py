"""Decoding with a cache against the full model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.inference.choice import Choice
from t5x_style.inference.generation import generate
from t5x_style.models import Experts, Transformer, TransformerConfig

SIZES = {"vocab_size": 48, "emb_dim": 32, "num_heads": 4, "head_dim": 8, "mlp_dim": 48}
FAMILIES = {
  "t5": {"num_encoder_layers": 2, "num_decoder_layers": 2},
  "llama": {"num_decoder_layers": 2, "positions": "rotary", "num_kv_heads": 2, "qk_norm": True},
  "local": {"num_decoder_layers": 3, "positions": "rotary", "attention_windows": (2, None)},
  # The cap is so low that float32 rounds many logits to it; the largest has to be chosen anyway.
  "gpt2": {
    "num_decoder_layers": 2,
    "positions": "learned",
    "scan_layers": False,
    "logit_soft_cap": 0.01,
    "max_length": 17,
  },
  "bart": {
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "positions": "learned",
    "position_offset": 2,
    "embedding_norm": True,
    "max_length": 17,
  },
  "experts": {
    "num_encoder_layers": 1,
    "num_decoder_layers": 2,
    "experts": Experts(num_experts=4, experts_per_token=2, capacity_factor=0.5),
  },
}
PROMPTS = [[0, 3, 4], [0], [0, 7, 5, 6, 8, 9]]
INPUTS = [
  [5, 6, 7, 8, 9],
  [10],
  [12, 0, 14],
]  # 0 is an ordinary id where segments say what is read.


def build(family):
  model = Transformer(TransformerConfig(**SIZES, **FAMILIES[family]))
  batch = {"decoder_input_tokens": jnp.ones((1, 4), jnp.int32)}
  inputs = INPUTS if model.config.num_encoder_layers else None
  if inputs:
    batch["encoder_input_tokens"] = batch["decoder_input_tokens"]
  return model, jax.jit(model.init)(jax.random.key(4), batch)["params"], inputs


def full_logits(model, params, tokens, inputs=None, prefix=0):
  """Returns the logits [L, V] of one row without a cache or padding."""
  batch = {"decoder_input_tokens": jnp.array([tokens])}
  if prefix:
    batch["decoder_causal_attention"] = (jnp.arange(len(tokens)) < prefix)[None].astype(jnp.int32)
  if inputs:
    batch |= {
      "encoder_input_tokens": jnp.array([inputs]),
      "encoder_segment_ids": jnp.ones((1, len(inputs)), jnp.int32),
      "encoder_positions": jnp.arange(len(inputs))[None],
      "decoder_segment_ids": jnp.ones((1, len(tokens)), jnp.int32),
      "decoder_positions": jnp.arange(len(tokens))[None],
    }
  return _apply(model, params, batch)[0]


@functools.partial(jax.jit, static_argnums=0)
def _apply(model, params, batch):
  return model.apply({"params": params}, batch).logits()


@pytest.mark.parametrize(
  ("family", "prefix_lm"),
  [
    ("llama", False),
    pytest.param("llama", True, marks=pytest.mark.slow),
    pytest.param("gpt2", False, marks=pytest.mark.slow),
    ("t5", False),
    pytest.param("experts", False, marks=pytest.mark.slow),
    pytest.param("bart", False, marks=pytest.mark.slow),
    pytest.param("local", False, marks=pytest.mark.slow),
  ],
)
def test_every_token_is_what_the_full_model_would_write(family, prefix_lm):
  """Rows of several lengths in one batch; the tokens and their log-probabilities."""
  model, params, inputs = build(family)
  written = generate(
    model, params, PROMPTS, encoder_inputs=inputs, max_new_tokens=9, prefix_lm=prefix_lm
  )
  for row, (prompt, found) in enumerate(zip(PROMPTS, written, strict=True)):
    tokens = [*prompt, *found.tokens.tolist()]
    logits = full_logits(
      model, params, tokens[:-1], inputs and inputs[row], len(prompt) if prefix_lm else 0
    )[len(prompt) - 1 :]
    likeliest = logits.at[:, 0].set(-jnp.inf).argmax(-1)  # Padding is never written.
    np.testing.assert_array_equal(found.tokens, likeliest)
    cap = model.config.logit_soft_cap
    logs = jax.nn.log_softmax(logits if cap is None else cap * jnp.tanh(logits / cap))
    logs = np.asarray(logs)[np.arange(len(found.tokens)), found.tokens]
    np.testing.assert_allclose(found.log_probabilities, logs, atol=3e-6)
    ends = np.flatnonzero(found.tokens == 1)
    assert found.finished == bool(len(ends)) and len(found.tokens) == (
      ends[0] + 1 if len(ends) else 9
    )


def test_a_row_ends_with_any_of_its_ends():
  model, params, _ = build("llama")
  (free,) = generate(model, params, [[0, 3]], max_new_tokens=8)
  third = int(free.tokens[2])
  place = free.tokens.tolist().index(third)
  (cut,) = generate(model, params, [[0, 3]], max_new_tokens=8, eos_id=(third, 1))
  assert cut.finished and cut.tokens.tolist() == free.tokens.tolist()[: place + 1]


@pytest.mark.slow
def test_padding_is_written_if_every_id_may_be():
  model, params, _ = build("llama")
  embedding = params["token_embed"]["embedding"]
  value = embedding.unbox() if hasattr(embedding, "unbox") else embedding
  hidden = value[40]
  changed = {**params, "token_embed": {"embedding": value.at[0].set(20 * hidden)}}
  prompts = [[3, 40], [40]]
  for pad_id in (-1, 0):
    logits = [full_logits(model, changed, prompt)[-1] for prompt in prompts]
    if pad_id == 0:
      logits = [x.at[0].set(-jnp.inf) for x in logits]
    found = generate(model, changed, prompts, max_new_tokens=1, pad_id=pad_id)
    assert [x.tokens.tolist() for x in found] == [[int(x.argmax())] for x in logits]
    assert (pad_id == -1) == any(0 in x.tokens for x in found)


def test_sampling_follows_the_distribution_of_the_top_k():
  model, params, _ = build("llama")
  choice = Choice(temperature=0.7, top_k=3)
  drawn = generate(
    model, params, [[0]] * 4000, max_new_tokens=1, choice=choice, pad_id=-1, batch_size=4000
  )
  drawn = np.array([int(x.tokens[0]) for x in drawn])
  values, ids = jax.lax.top_k(full_logits(model, params, [0])[0], 3)
  shares = np.array([(drawn == i).mean() for i in ids])
  assert shares.sum() == pytest.approx(1.0)
  np.testing.assert_allclose(shares, jax.nn.softmax(values / 0.7), atol=0.03)  # 4 sigma
