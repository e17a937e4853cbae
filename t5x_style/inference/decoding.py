"""Autoregressive decoding with a key-value cache, greedy or sampled, as one compiled loop."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from t5x_style.models import Transformer

# Padding, end and start of a sequence where the data do not say otherwise.
SPECIAL_IDS = (0, 1, 0)


def make_cache(model: Transformer, batch_size: int, length: int, encoder_length: int = 0) -> Any:
  """A zeroed cache for `length` positions: [B, length, K, H] keys and values of every layer."""
  config = model.config
  tokens = jax.ShapeDtypeStruct((batch_size, length), jnp.int32)
  inputs: dict[str, jax.ShapeDtypeStruct] = {}
  if encoder_length:
    shape = (batch_size, encoder_length)
    inputs["encoder_tokens"] = jax.ShapeDtypeStruct(shape, jnp.int32)
    inputs["encoded"] = jax.ShapeDtypeStruct((*shape, config.emb_dim), config.dtype)
  position = jax.ShapeDtypeStruct((), jnp.int32)
  init = functools.partial(model.init, method=Transformer.decode_step)
  shapes = jax.eval_shape(init, jax.random.key(0), tokens, position, **inputs)["cache"]
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


@functools.partial(jax.jit, static_argnames=("model", "length", "temperature", "top_k"))
def decode(
  model: Transformer,
  params: Any,
  prompt: jax.Array,
  *,
  length: int,
  encoder_tokens: jax.Array | None = None,
  encoder_segments: jax.Array | None = None,
  special_ids: tuple[int, int, int] = SPECIAL_IDS,
  rng: jax.Array | None = None,
  temperature: float = 0.0,
  top_k: int = 0,
) -> jax.Array:
  """Continues prompts token by token.

  Args:
    prompt: [B, P] tokens; padding from where a row is to be continued. P = 0 is an empty prompt.
    length: tokens to return per row, prompt included.
    encoder_tokens: [B, S], what an encoder-decoder reads.
    encoder_segments: [B, S], 0 on its padding; None where that has id 0.
    special_ids: of padding (-1 where there is none), the end and the start of a sequence.
    rng: needed where temperature > 0.
    temperature: 0 takes the likeliest token.
    top_k: sample among the k likeliest; 0 among all.

  Returns:
    [B, length] tokens, padding after the first EOS that the model wrote.
  """
  pad_id, eos_id, start_id = special_ids
  missing = max(length - prompt.shape[1], 0)
  prompt = jnp.pad(prompt, ((0, 0), (0, missing)), constant_values=pad_id)[:, :length]
  batch_size, inputs = prompt.shape[0], {}
  if encoder_tokens is not None:
    batch = {"encoder_input_tokens": encoder_tokens}
    if encoder_segments is not None:
      batch["encoder_segment_ids"] = encoder_segments
    encoded = model.apply({"params": params}, batch, method=Transformer.encode)
    seen = encoder_tokens if encoder_segments is None else encoder_segments
    inputs = {"encoded": encoded, "encoder_tokens": seen}
  cache = make_cache(
    model, batch_size, length, 0 if encoder_tokens is None else encoder_tokens.shape[1]
  )

  def one(carry, position):
    cache, token, done = carry
    out, new = model.apply(
      {"params": params, "cache": cache},
      token[:, None],
      position,
      **inputs,
      method=Transformer.decode_step,
      mutable=["cache"],
    )
    # The cap keeps the order of logits, but rounds large ones to the same number.
    logits = out.logits(model.config.logit_soft_cap if temperature else None)[:, 0]
    key = None if rng is None else jax.random.fold_in(rng, position)
    given = prompt[:, position]
    chosen = jnp.where(given != pad_id, given, _choose(logits, key, temperature, top_k, pad_id))
    chosen = jnp.where(done, pad_id, chosen)
    done |= (chosen == eos_id) & (given == pad_id)
    return (new["cache"], chosen, done), chosen

  start = jnp.full((batch_size,), start_id, jnp.int32)
  carry = (cache, start, jnp.zeros((batch_size,), bool))
  return jax.lax.scan(one, carry, jnp.arange(length))[1].T


def _choose(logits, key, temperature, top_k, pad_id):
  """[B, V] -> [B] token ids; padding is never chosen."""
  logits = jnp.where(jnp.arange(logits.shape[-1]) == pad_id, -jnp.inf, logits)
  if temperature == 0.0:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  if top_k:
    least = jax.lax.top_k(logits, top_k)[0][:, -1:]
    logits = jnp.where(logits < least, -jnp.inf, logits)
  return jax.random.categorical(key, logits / temperature).astype(jnp.int32)
