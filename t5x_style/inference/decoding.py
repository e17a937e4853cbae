"""Autoregressive decoding with a cache of keys and values, as one compiled program.

Prompts of different lengths end at the same slot of the cache: there is padding before the shorter
ones, which nobody attends to. So each step writes one slot for the whole batch.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from t5x_style.inference.choice import draw
from t5x_style.models import Transformer
from t5x_style.models.transformer import Batch, encoder_segments
from t5x_style.soft_cap import soft_capped


class Written(NamedTuple):
  """What was written after the prompts of a batch."""

  tokens: jax.Array  # [B, N] int32
  log_probabilities: jax.Array  # [B, N] float32: natural, at temperature 1, of all tokens
  lengths: jax.Array  # [B]: how many of the N tokens were written, EOS included
  finished: jax.Array  # [B]: whether the last of them is EOS


class Decoder:
  """A model with the cache of a batch; for use inside jit.

  Attributes:
    cache: the keys and values of all layers.
    encoder_segments: [B, S], 0 where the encoder's input is padding; None if there is no encoder.
  """

  def __init__(self, model: Transformer, params: Any, batch: Batch, new: int):
    """Reads the prompts.

    Args:
      batch: what Transformer.prefill reads; decoder_segment_ids [B, P] are 0 on padding, which
        precedes the prompts.
      new: how many tokens are written at most.
    """
    config = dataclasses.replace(model.config, remat="none", dropout_rate=0.0)
    self._model, self._params = Transformer(config), params
    self._first_slot = batch["decoder_input_tokens"].shape[1]
    self._segments = jnp.pad(batch["decoder_segment_ids"], ((0, 0), (0, new)), constant_values=1)
    self._lengths = batch["decoder_segment_ids"].sum(1)
    self.encoder_segments = None
    if config.num_encoder_layers:
      self.encoder_segments = encoder_segments(batch, config.padding_id)
    length = self._segments.shape[1]
    self._prompt_outputs, variables = self._model.apply(
      {"params": params}, batch, length, method=Transformer.prefill, mutable=["cache"]
    )
    self.cache = variables["cache"]

  def first_logits(self) -> jax.Array:
    """Returns the logits [B, V] of the token after each prompt, before any soft cap."""
    return self._prompt_outputs.logits()[:, 0]

  def step(self, cache: Any, tokens: jax.Array, index: jax.Array) -> tuple[jax.Array, Any]:
    """Reads a token of each row; returns the logits [B, V] of the next one, and the new cache.

    Args:
      cache: as of `first_logits`, or as the step before returned it.
      tokens: [B], the tokens number `index` after the prompts, from 0.
    """
    outputs, variables = self._model.apply(
      {"params": self._params, "cache": cache},
      tokens[:, None],
      self._first_slot + index,
      (self._lengths + index)[:, None],
      self._segments,
      self.encoder_segments,
      method=Transformer.decode_step,
      mutable=["cache"],
    )
    return outputs.logits()[:, 0], variables["cache"]

  def repeated(self, times: int) -> "Decoder":
    """Returns a decoder in which each row stands `times` times, one after the other."""
    other = object.__new__(Decoder)
    other.__dict__ |= self.__dict__

    def repeat(x):
      return None if x is None else jnp.repeat(x, times, axis=0)

    other._segments, other._lengths = repeat(self._segments), repeat(self._lengths)
    other.encoder_segments = repeat(self.encoder_segments)
    other.cache = map_rows(lambda x, axis: jnp.repeat(x, times, axis=axis), self.cache)
    return other


def map_rows(function: Callable[[jax.Array, int], jax.Array], cache: Any) -> Any:
  """Applies function(array, axis of the rows) to each array of a cache, [..., B, S, K, H]."""
  return jax.tree.map(lambda x: function(x, x.ndim - 4), cache)


def log_softmax(model: Transformer, logits: jax.Array) -> jax.Array:
  """Returns the log-probabilities [..., V] that a model's logits mean, after its soft cap."""
  cap = model.config.logit_soft_cap
  return jax.nn.log_softmax(logits if cap is None else soft_capped(logits, cap))


@functools.partial(
  jax.jit, static_argnames=("model", "slots", "eos_ids", "never", "greedy", "top_k")
)
def decode(
  model: Transformer,
  params: Any,
  batch: Batch,
  real_rows: jax.Array,
  count: jax.Array,
  keys: jax.Array,
  temperature: jax.Array,
  top_p: jax.Array | None,
  *,
  slots: int,
  eos_ids: tuple[int, ...],
  never: tuple[int, ...] = (),
  greedy: bool = True,
  top_k: int = 0,
) -> Written:
  """Continues prompts token by token until each row has ended.

  Args:
    batch: what Transformer.prefill reads, with decoder_segment_ids.
    real_rows: scalar: the rows after these only fill the batch up, and nothing waits for them.
    count: scalar, how many tokens are written at most.
    keys: [B], a random key for each row.
    temperature, top_p, top_k: as of Choice; only read if tokens are drawn.
    slots: N, at least `count`: another number needs another program.
    eos_ids: a row ends with one of these.
    never: ids that are never written.
    greedy: takes the likeliest token; False draws.
  """
  decoder = Decoder(model, params, batch, slots)
  rows = batch["decoder_input_tokens"].shape[0]

  def choose(logits, index):
    logs = log_softmax(model, logits)
    # The soft cap keeps the order of logits, but may round two large ones to the same number.
    scores = logits if greedy else logs
    for token in never:
      scores = scores.at[:, token].set(-jnp.inf)
    if greedy:
      chosen = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    else:
      folded = jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)
      chosen = draw(scores, folded, temperature, top_k, top_p)
    return chosen, jnp.take_along_axis(logs, chosen[:, None], axis=1)[:, 0]

  def note(written, index, chosen, log_probability, running):
    tokens = written.tokens.at[:, index].set(jnp.where(running, chosen, 0))
    logs = written.log_probabilities.at[:, index].set(jnp.where(running, log_probability, 0.0))
    ended = running & jnp.isin(chosen, jnp.array(eos_ids, jnp.int32))
    return Written(tokens, logs, written.lengths + running, written.finished | ended)

  def body(carry):
    index, cache, token, written = carry
    logits, cache = decoder.step(cache, token, index)
    chosen, log_probability = choose(logits, index + 1)
    written = note(written, index + 1, chosen, log_probability, ~written.finished)
    return index + 1, cache, chosen, written

  def unfinished(carry):
    index, _, _, written = carry
    return (index + 1 < count) & ~written.finished.all()

  empty = Written(
    jnp.zeros((rows, slots), jnp.int32),
    jnp.zeros((rows, slots), jnp.float32),
    jnp.zeros((rows,), jnp.int32),
    jnp.arange(rows) >= real_rows,
  )
  chosen, log_probability = choose(decoder.first_logits(), 0)
  written = note(empty, 0, chosen, log_probability, ~empty.finished)
  return jax.lax.while_loop(unfinished, body, (jnp.int32(0), decoder.cache, chosen, written))[-1]
