"""A stack of blocks: the encoder, and the decoder with or without cross-attention."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from t5x_style.models.attention import Attention, Pattern, RelativeBias
from t5x_style.models.config import TransformerConfig
from t5x_style.models.layers import Dropout, Mlp, Norm

REMAT_POLICIES = {
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": None,  # jax.checkpoint's own default: save nothing but the block's input.
}


class Context(flax.struct.PyTreeNode):
  """What every block of a stack shares, made once: masks, bias, positions, the encoder's output."""

  self_mask: jax.Array | None = None  # [B or 1, 1, L or 1, S]
  self_bias: jax.Array | None = None  # [1, N, L, S]
  positions: jax.Array | None = None  # [B or 1, L], for rotary attention
  encoded: jax.Array | None = None  # [B, S, D]
  cross_mask: jax.Array | None = None  # [B, 1, L or 1, S]
  cache_position: jax.Array | None = None  # scalar, when decoding


class Block(nn.Module):
  """Self-attention, cross-attention where there is something to cross to, feed-forward."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x: jax.Array, context: Context) -> tuple[jax.Array, None]:
    """[B, L, D] -> [B, L, D], in the (carry, output) form of nn.scan."""
    config = self.config

    def self_attention(y):
      return Attention(config, name="self_attention")(
        y,
        y,
        mask=context.self_mask,
        bias=context.self_bias,
        positions=context.positions,
        cache_position=context.cache_position,
      )

    def cross_attention(y):
      return Attention(config, name="cross_attention")(y, context.encoded, mask=context.cross_mask)

    x = self._residual("self_attention", self_attention, x)
    if context.encoded is not None:
      x = self._residual("cross_attention", cross_attention, x)
    return self._residual("mlp", Mlp(config, name="mlp"), x), None

  def _residual(self, name, function, x):
    """Pre-norm: x + f(norm(x)) (T5, GPT-2). Post-norm: norm(x + f(x)) (Vaswani 2017, BERT)."""
    norm = Norm(self.config, name=f"{name}_norm")
    dropout = Dropout(self.config)
    if self.config.norm_position == "pre":
      y = x + dropout(function(norm(x)))
    else:
      y = norm(x + dropout(function(x)))
    return nn.with_logical_constraint(y, ("batch", "length", "embed"))


class Stack(nn.Module):
  """`num_layers` blocks, scanned into one compiled body or unrolled, and the final norm."""

  config: TransformerConfig
  num_layers: int
  bidirectional: bool

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    pattern: Pattern,
    *,
    positions: jax.Array | None = None,
    encoded: jax.Array | None = None,
    cross_pattern: Pattern | None = None,
    cache_position: jax.Array | None = None,
  ) -> jax.Array:
    """Embedded tokens [B, L, D] -> hidden states [B, L, D].

    Args:
      pattern: who sees whom inside the stack; cross_pattern: and in the encoder's output.
      positions: [B, L] within each segment; None counts from 0 along the row.
      encoded: [B, S, D], the encoder's output, for a decoder that crosses to one.
      cache_position: scalar; x is then [B, 1, D], the token at that position of a cached sequence.
    """
    config = self.config
    context = Context(
      positions=positions if config.positions == "rotary" else None,
      encoded=encoded,
      cache_position=cache_position,
    )
    length, keys = x.shape[1], x.shape[1]
    if cache_position is not None and not self.is_initializing():
      keys = self._cache_length()
      context = context.replace(self_mask=(jnp.arange(keys) <= cache_position)[None, None, None])
    else:
      context = context.replace(self_mask=pattern.mask(length, keys))
    if cross_pattern is not None and encoded is not None:
      context = context.replace(cross_mask=cross_pattern.mask(length, encoded.shape[1]))
    if config.positions == "relative":
      queries = jnp.arange(length) + (0 if cache_position is None else cache_position)
      bias = RelativeBias(config, self.bidirectional, name="relative_bias")
      context = context.replace(self_bias=bias(queries, jnp.arange(keys)))
    x = self._blocks(x, context)
    if config.norm_position == "pre":
      x = Norm(config, name="final_norm")(x)
    return Dropout(config)(x)

  def _blocks(self, x, context):
    config, block = self.config, Block
    if config.remat != "none":
      # Inside a scan the loop already keeps XLA from merging the two forward passes.
      block = nn.remat(
        block, policy=REMAT_POLICIES[config.remat], prevent_cse=not config.scan_layers
      )
    if not config.scan_layers:
      for i in range(self.num_layers):
        x, _ = block(config, name=f"layers_{i}")(x, context)
      return x
    scanned = nn.scan(
      block,
      variable_axes={"params": 0, "cache": 0},
      split_rngs={"params": True, "dropout": True},
      in_axes=nn.broadcast,
      length=self.num_layers,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )
    return scanned(config, name="layers")(x, context)[0]

  def _cache_length(self):
    """S of the cache [..., B, S, K, H] that the blocks will write to."""
    return jax.tree.leaves(self.variables["cache"])[0].shape[-3]
