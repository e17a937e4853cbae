"""The model: encoder-only, decoder-only and encoder-decoder Transformers from the same stack.

The patterns of attention are built here, from the features of a batch; attention_kernels/pattern.py
defines what they mean.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from t5x_style.errors import UserError
from t5x_style.models import ops
from t5x_style.models.attention import CacheUse
from t5x_style.models.attention_kernels.pattern import Pattern
from t5x_style.models.config import TransformerConfig
from t5x_style.models.layers import Dense, Dropout, Embed, Norm, kernel_init
from t5x_style.models.stack import Stack
from t5x_style.soft_cap import soft_capped

Batch = dict[str, jax.Array]  # features by their SeqIO names


class Outputs(NamedTuple):
  """Hidden states and the parameters of the head: logits = hidden @ kernel + bias.

  The loss computes the logits, because it never needs all of them at once.
  """

  hidden: jax.Array  # [B, L, D], or [B, P, D] at the requested target positions
  kernel: jax.Array  # [D, V]
  bias: jax.Array | None  # [V]
  pooled_logits: jax.Array | None = None  # [B, classes], of the head that classifies rows

  def logits(self, soft_cap: float | None = None) -> jax.Array:
    """Returns all logits [B, L, V] in float32, for decoding or for scoring a few positions."""
    logits = jnp.einsum("bld,dv->blv", self.hidden, self.kernel, preferred_element_type=jnp.float32)
    if self.bias is not None:
      logits += self.bias.astype(jnp.float32)
    return logits if soft_cap is None else soft_capped(logits, soft_cap)


class Transformer(nn.Module):
  """The model of all architectures. It reads features by their SeqIO names.

  encoder_decoder: encoder_input_tokens [B, S], decoder_input_tokens [B, L]
  decoder_only:    decoder_input_tokens [B, L], optional decoder_causal_attention [B, L]
  encoder_only:    encoder_input_tokens [B, S], optional encoder_token_types [B, S]

  Packed batches add {encoder,decoder}_segment_ids and {encoder,decoder}_positions. Dropout is on
  if `apply` gets a "dropout" rng.
  """

  config: TransformerConfig

  def setup(self):
    config = self.config
    self.token_embed = Embed(config, config.vocab_size)
    both = config.architecture == "encoder_decoder"  # Two stacks share only the token table.
    if config.positions == "learned":
      rows = config.max_length + config.position_offset
      self.position_embed = Embed(config, rows, axis="positions")
      if both:
        self.decoder_position_embed = Embed(config, rows, axis="positions")
    if config.num_token_types:
      self.type_embed = Embed(config, config.num_token_types, axis="types")
    if config.embedding_norm:
      self.embed_norm = Norm(config)
      if both:
        self.decoder_embed_norm = Norm(config)
    self.embed_dropout = Dropout(config, "embeddings")
    if config.factorized_dim is not None:
      self.embed_projection = Dense(config, (config.emb_dim,), ("embed", "embed_out"))
    if config.num_encoder_layers:
      self.encoder = Stack(config, config.num_encoder_layers, bidirectional=True)
    if config.num_decoder_layers:
      self.decoder = Stack(config, config.num_decoder_layers, bidirectional=False)
    self.head = Head(config)
    if config.pooled_classes:
      self.pooler = Pooler(config)

  def __call__(self, batch: Batch, target_positions: jax.Array | None = None) -> Outputs:
    """Runs the model on a batch.

    Args:
      batch: the features above, int32.
      target_positions: [B, P]; only these positions reach the head. None: all do.
    """
    encoded = None
    if self.config.num_encoder_layers:
      encoded = hidden = self.encode(batch)
    if self.config.num_decoder_layers:
      hidden = self._decode(batch, encoded)
    pooled = None
    if self.config.pooled_classes and encoded is not None:
      pooled = self.pooler(encoded[:, 0])
    if target_positions is not None:
      hidden = jnp.take_along_axis(hidden, target_positions[..., None], axis=1)
    return self._outputs(hidden, pooled)

  def encode(self, batch: Batch) -> jax.Array:
    """Returns the encoder's output [B, S, D]."""
    tokens = batch["encoder_input_tokens"]
    pattern = encoder_pattern(batch, self.config.padding_id)
    positions = row_positions(tokens, batch.get("encoder_positions"))
    if self.config.positions_skip_padding and "encoder_positions" not in batch:
      positions = positions_of_real_tokens(tokens, self.config.padding_id)
    x = self._embed(tokens, positions, batch.get("encoder_token_types"))
    real = real_tokens(batch, "encoder", self.config.padding_id)
    return self.encoder(x, pattern, positions=positions, real=real)

  def hidden_states(self, batch: Batch) -> jax.Array:
    """Returns the states [B, L, D] after the last norm, before the head, as vectors of tokens.

    They are the decoder's in a decoder-only model, otherwise the encoder's.
    """
    if self.config.num_encoder_layers:
      return self.encode(batch)
    return self._decode(batch, None)

  def prefill(self, batch: Batch, cache_length: int) -> Outputs:
    """Reads prompts and makes the cache that `decode_step` continues; call with mutable=["cache"].

    Args:
      batch: as `__call__`; prompts end at the last of the P positions of decoder_input_tokens, and
        decoder_segment_ids are 0 on the padding before them.
      cache_length: the slots of the cache, P and those of the tokens to come.

    Returns:
      The outputs of the last position, hidden [B, 1, D].
    """
    encoded = self.encode(batch) if self.config.num_encoder_layers else None
    hidden = self._decode(batch, encoded, CacheUse(length=cache_length))
    return self._outputs(hidden[:, -1:])

  def decode_step(
    self,
    tokens: jax.Array,
    slot: jax.Array,
    positions: jax.Array,
    cached_segments: jax.Array,
    encoder_segments: jax.Array | None = None,
  ) -> Outputs:
    """Returns the outputs of the next token of cached sequences; call with mutable=["cache"].

    Args:
      tokens: [B, 1], the tokens to read next.
      slot: scalar, where their keys and values are put in the cache of S slots.
      positions: [B, 1], their positions in their sequences: less than the slot, if a sequence has
        padding before it.
      cached_segments: [B, S], 0 for slots of padding before a sequence, else 1.
      encoder_segments: [B, S'], 0 where the encoder's input is padding; None if there is none.
    """
    cross, cross_length = None, 0
    if encoder_segments is not None:
      cross, cross_length = Pattern(key_segments=encoder_segments), encoder_segments.shape[1]
    hidden = self.decoder(
      self._embed(tokens, positions, side="decoder"),
      Pattern(causal=True, key_segments=cached_segments),
      positions=positions,
      cross_pattern=cross,
      cross_length=cross_length,
      cache=CacheUse(slot, cached_segments.shape[1]),
    )
    return self._outputs(hidden)

  def _decode(self, batch, encoded, cache=None):
    tokens, pattern, cross = batch["decoder_input_tokens"], decoder_pattern(batch), None
    if encoded is not None:
      cross = cross_pattern(batch, self.config.padding_id)
    positions = row_positions(tokens, batch.get("decoder_positions"))
    return self.decoder(
      self._embed(tokens, positions, side="decoder"),
      pattern,
      positions=positions,
      encoded=encoded,
      cross_pattern=cross,
      cross_length=0 if encoded is None else encoded.shape[1],
      cache=cache,
      real=real_tokens(batch, "decoder"),
    )

  def _embed(self, tokens, positions, token_types=None, side="encoder"):
    config = self.config
    second = side == "decoder" and config.architecture == "encoder_decoder"
    x = self.token_embed(tokens)
    if config.positions == "learned":
      if tokens.shape[1] > config.max_length:
        raise UserError(
          f"A row of {tokens.shape[1]} tokens is longer than the {config.max_length} learned "
          "positions of the model: set TransformerConfig.max_length, or shorter "
          "TASK_FEATURE_LENGTHS."
        )
      table = self.decoder_position_embed if second else self.position_embed
      x += table(positions + config.position_offset)
    if config.num_token_types:
      x += self.type_embed(jnp.zeros_like(tokens) if token_types is None else token_types)
    if config.embedding_norm:
      x = (self.decoder_embed_norm if second else self.embed_norm)(x)
    x = self.embed_dropout(x)
    if config.factorized_dim is not None:
      x = self.embed_projection(x)
    return nn.with_logical_constraint(x, ("batch", "length", "embed"))

  def _outputs(self, hidden, pooled=None):
    table = self.token_embed.embedding if self.config.tie_embeddings else None
    hidden, kernel, bias = self.head(hidden, table)
    return Outputs(hidden, kernel, bias, pooled)


class Head(nn.Module):
  """What is between the last block and the logits: BERT's transform, scale, kernel and bias."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, hidden: jax.Array, table: jax.Array | None):
    """Returns (hidden [B, L, E], kernel [E, V], bias [V] or None).

    Args:
      hidden: [B, L, D].
      table: the tied embedding table [V, E], or None. E < D if the embedding is factorized.
    """
    config = self.config
    if config.head_transform:
      width = config.emb_dim if table is None else config.table_dim
      dense = Dense(config, (width,), ("embed", "embed_out"), name="transform")
      hidden, bias = dense(hidden, bias_apart=True)
      hidden = ops.activate(config.mlp_activations[:1], (hidden,), (bias,), scanned=False)
      hidden = Norm(config, name="transform_norm")(hidden)
    if table is not None:
      kernel = table.T
      if config.scale_logits:
        hidden = hidden / jnp.sqrt(config.emb_dim).astype(hidden.dtype)
      if config.tied_logit_factor != 1:
        hidden = hidden * config.tied_logit_factor
    else:
      kernel = self.param(
        "kernel",
        nn.with_logical_partitioning(kernel_init(config), ("embed", "vocab")),
        (config.emb_dim, config.vocab_size),
        config.param_dtype,
      )
    bias = None
    if config.head_bias:
      zeros = nn.with_logical_partitioning(nn.initializers.zeros, ("vocab",))
      bias = self.param("bias", zeros, (config.vocab_size,), config.param_dtype)
    return hidden, kernel.astype(config.dtype), bias


class Pooler(nn.Module):
  """The head that classifies a row by its first token: dense, tanh, classes (Devlin 2018)."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, first: jax.Array) -> jax.Array:
    """Maps the first token's vectors [B, D] to logits [B, classes] in float32."""
    config = self.config
    x = nn.tanh(Dense(config, (config.emb_dim,), ("embed", "embed_out"), name="dense")(first))
    classes = Dense(config, (config.pooled_classes,), ("embed", "classes"), name="classes")
    return classes(x).astype(jnp.float32)


def encoder_pattern(batch: Batch, padding_id: int = 0) -> Pattern:
  """Returns the encoder's pattern: tokens see all tokens of their own document."""
  segments = encoder_segments(batch, padding_id)
  if "encoder_segment_ids" in batch:
    return Pattern(key_segments=segments, query_segments=segments)
  return Pattern(key_segments=segments)  # Without packing, hiding padding keys is enough.


def decoder_pattern(batch: Batch) -> Pattern:
  """Returns the decoder's pattern: earlier tokens of the same document, and all of a prefix."""
  segments = batch.get("decoder_segment_ids")
  prefix = batch.get("decoder_causal_attention")
  return Pattern(causal=True, query_segments=segments, key_segments=segments, prefix=prefix)


def cross_pattern(batch: Batch, padding_id: int = 0) -> Pattern:
  """Returns the pattern from decoder to encoder: targets see all inputs of their own document."""
  # A packed target sees the inputs with its own segment id; unpacked, only padding is hidden.
  queries = batch.get("decoder_segment_ids") if "encoder_segment_ids" in batch else None
  return Pattern(query_segments=queries, key_segments=encoder_segments(batch, padding_id))


def encoder_segments(batch: Batch, padding_id: int = 0) -> jax.Array:
  """Returns segment ids [B, S]: those of packed rows, else 1 on tokens and 0 on padding."""
  if "encoder_segment_ids" in batch:
    return batch["encoder_segment_ids"]
  return (batch["encoder_input_tokens"] != padding_id).astype(jnp.int32)


def real_tokens(batch: Batch, side: str, padding_id: int = 0) -> jax.Array | None:
  """Returns where a side reads tokens, bool [B, L]: False on padding; None if that is not known.

  An unpacked decoder reads a token where it predicts one. Where nothing says what it predicts, as
  in inference without segment ids, all tokens count.
  """
  if side == "encoder":
    return encoder_segments(batch, padding_id) > 0
  known = batch.get("decoder_segment_ids", batch.get("decoder_target_tokens"))
  return None if known is None else known > 0


def row_positions(tokens: jax.Array, positions: jax.Array | None) -> jax.Array:
  """Returns positions [B or 1, L]: those of packed rows, else 0, 1, 2 ... along the row."""
  return jnp.arange(tokens.shape[1])[None] if positions is None else positions


def positions_of_real_tokens(tokens: jax.Array, padding_id: int) -> jax.Array:
  """Returns RoBERTa's positions [B, L]: they count only real tokens, and padding is at -1.

  tokens [[5, 6, 1, 7, 1]], padding 1 -> [[0, 1, -1, 2, -1]]
  """
  real = tokens != padding_id
  return jnp.where(real, jnp.cumsum(real, axis=1) - 1, -1)
