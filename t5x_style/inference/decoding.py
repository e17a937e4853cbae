"""Autoregressive decoding with a key-value cache, greedy or sampled, as one compiled loop."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from t5x_style.models import Transformer

# The ids of padding, of the end and of the start of a sequence, unless the data say otherwise.
SPECIAL_IDS = (0, 1, 0)


def make_cache(model: Transformer, batch_size: int, length: int, encoder_length: int = 0) -> Any:
  """Returns an empty cache of keys and values [B, length, K, H] for every layer.

  Args:
    length: the number of positions to decode.
    encoder_length: S of an encoder-decoder's input; 0 for a decoder-only model.
  """
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
    prompt: [B, P] tokens; a row is continued from its first padding on. P = 0 is an empty prompt.
    length: the tokens to return per row, including the prompt.
    encoder_tokens: [B, S], the input of an encoder-decoder.
    encoder_segments: [B, S], 0 where the input is padding; None if padding has id 0.
    special_ids: the ids of padding (-1 if there is none), of the end and the start of a sequence.
    rng: for sampling, at a temperature above 0.
    temperature: 0 takes the likeliest token.
    top_k: samples from the k likeliest tokens; 0 samples from all.

  Returns:
    [B, length] tokens, with padding after the first EOS that the model wrote.
  """
  pad_id, eos_id, start_id = special_ids
  missing = max(length - prompt.shape[1], 0)
  prompt = jnp.pad(prompt, ((0, 0), (0, missing)), constant_values=pad_id)[:, :length]
  batch_size, encoder_length, inputs = prompt.shape[0], 0, {}
  if encoder_tokens is not None:
    encoder_length = encoder_tokens.shape[1]
    inputs = _encode(model, params, encoder_tokens, encoder_segments)

  def step(carry, position):
    cache, token, done = carry
    out, cache = _run_step(model, params, cache, token, position, inputs)
    # The soft cap keeps the order of logits, but may round two large ones to the same number.
    logits = out.logits(model.config.logit_soft_cap if temperature else None)[:, 0]
    key = None if rng is None else jax.random.fold_in(rng, position)
    given = prompt[:, position]
    chosen = jnp.where(given != pad_id, given, _choose(logits, key, temperature, top_k, pad_id))
    chosen = jnp.where(done, pad_id, chosen)
    done |= (chosen == eos_id) & (given == pad_id)
    return (cache, chosen, done), chosen

  cache = make_cache(model, batch_size, length, encoder_length)
  start = jnp.full((batch_size,), start_id, jnp.int32)
  carry = (cache, start, jnp.zeros((batch_size,), bool))
  return jax.lax.scan(step, carry, jnp.arange(length))[1].T


def _encode(model, params, tokens, segments):
  """Returns what `Transformer.decode_step` needs to know about an encoder's input [B, S]."""
  batch = {"encoder_input_tokens": tokens}
  if segments is not None:
    batch["encoder_segment_ids"] = segments
  encoded = model.apply({"params": params}, batch, method=Transformer.encode)
  return {"encoded": encoded, "encoder_tokens": tokens if segments is None else segments}


def _run_step(model, params, cache, token, position, inputs):
  """Returns the outputs of tokens [B] at a position, and the cache with their keys and values."""
  out, new = model.apply(
    {"params": params, "cache": cache},
    token[:, None],
    position,
    **inputs,
    method=Transformer.decode_step,
    mutable=["cache"],
  )
  return out, new["cache"]


def _choose(logits, key, temperature, top_k, pad_id):
  """Chooses the next tokens, never padding: logits [B, V] -> ids [B]."""
  logits = jnp.where(jnp.arange(logits.shape[-1]) == pad_id, -jnp.inf, logits)
  if temperature == 0.0:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)
  if top_k:
    least = jax.lax.top_k(logits, top_k)[0][:, -1:]
    logits = jnp.where(logits < least, -jnp.inf, logits)
  return jax.random.categorical(key, logits / temperature).astype(jnp.int32)
