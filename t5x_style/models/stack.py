"""A stack of blocks: the encoder, and the decoder with or without cross-attention."""

import functools

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from t5x_style.models.attention import Attention, RelativeBias
from t5x_style.models.attention_kernels.pattern import (
  OUTPUT_NAME,
  XLA,
  AttentionInputs,
  AttentionSpec,
  Pattern,
)
from t5x_style.models.attention_kernels.select import attention_inputs, choose_kernel
from t5x_style.models.config import TransformerConfig
from t5x_style.models.layers import Dropout, Mlp, Norm

REMAT_POLICIES = {
  # Products with kernels, and what attention comes to where a Pallas kernel computes it.
  "dots": jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(OUTPUT_NAME),
  ),
  "full": None,  # jax.checkpoint's own default: save nothing but the block's input.
}


class Context(flax.struct.PyTreeNode):
  """What the blocks of a stack share: attention inputs, positions and the encoder's output."""

  self_inputs: tuple[AttentionInputs, ...]  # One per layer of the cycle of attention_windows.
  positions: jax.Array | None = None  # [B or 1, L], for rotary attention
  encoded: jax.Array | None = None  # [B, S, D]
  cross_inputs: AttentionInputs | None = None
  cache_position: jax.Array | None = None  # scalar, when decoding


class Block(nn.Module):
  """Self-attention, cross-attention where there is something to cross to, feed-forward.

  Attributes:
    kind: its place in the cycle of attention_windows.
    first: whether it is the first of its stack.
    scanned: whether a loop over layers runs it, so that the compiler sees each pass on its own.
  """

  config: TransformerConfig
  kind: int = 0
  first: bool = False
  scanned: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, context: Context) -> tuple[jax.Array, None]:
    """[B, L, D] -> [B, L, D], in the (carry, output) form of nn.scan."""
    config = self.config

    def self_attention(y):
      return Attention(config, name="self_attention")(
        y,
        y,
        context.self_inputs[self.kind],
        positions=context.positions,
        cache_position=context.cache_position,
      )

    def cross_attention(y):
      return Attention(config, name="cross_attention")(y, context.encoded, context.cross_inputs)

    x = self._residual("self_attention", self_attention, x)
    if context.encoded is not None:
      x = self._residual("cross_attention", cross_attention, x)
    return self._residual("mlp", Mlp(config, self.scanned, name="mlp"), x), None

  def _residual(self, name, function, x):
    """Pre-norm: x + f(norm(x)) (T5, GPT-2). Post-norm: norm(x + f(x)) (Vaswani 2017, BERT)."""
    dropout = Dropout(self.config)
    if self.first and name == "self_attention" and not self.config.first_attention_norm:
      norm = lambda x: x
    else:
      norm = Norm(self.config, name=f"{name}_norm")
    if self.config.norm_position == "pre":
      y = x + dropout(function(norm(x)))
    else:
      y = norm(x + dropout(function(x)))
    return nn.with_logical_constraint(y, ("batch", "length", "embed"))


class Cycle(nn.Module):
  """Blocks of several kinds in a row: the body of a scan over whole cycles."""

  config: TransformerConfig
  kinds: tuple[int, ...]
  scanned: bool

  @nn.compact
  def __call__(self, x: jax.Array, context: Context) -> tuple[jax.Array, None]:
    """[B, L, D] -> [B, L, D], in the (carry, output) form of nn.scan."""
    block = block_class(self.config, self.scanned)
    for i, kind in enumerate(self.kinds):
      x, _ = block(self.config, kind, scanned=self.scanned, name=f"block_{i}")(x, context)
    return x, None


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
    length, keys, bias, cross = x.shape[1], x.shape[1], None, None
    make_inputs = functools.partial(self._attention_inputs, x.shape[0], cache_position is not None)
    if cache_position is not None and not self.is_initializing():
      keys = self._cache_length()
      pattern = pattern.replace(query_start=cache_position)
    if config.positions == "relative":
      queries = jnp.arange(length) + (0 if cache_position is None else cache_position)
      bias = RelativeBias(config, self.bidirectional, name="relative_bias")(
        queries, jnp.arange(keys)
      )
    if encoded is not None:
      cross = make_inputs("cross-attention", cross_pattern or Pattern(), length, encoded.shape[1])
    by_window = {
      window: make_inputs("self-attention", pattern.replace(window=window), length, keys, bias)
      for window in config.attention_windows
    }
    context = Context(
      self_inputs=tuple(by_window[window] for window in config.attention_windows),
      positions=positions if config.positions == "rotary" else None,
      encoded=encoded,
      cross_inputs=cross,
      cache_position=cache_position,
    )
    x = self._blocks(x, context)
    if config.norm_position == "pre":
      x = Norm(config, name="final_norm")(x)
    return Dropout(config)(x)

  def _attention_inputs(self, rows, cached, what, pattern, queries, keys, bias=None):
    config, kernel = self.config, XLA
    if not cached and not self.is_initializing():  # A cache has one query at a time.
      spec = AttentionSpec(
        (rows, queries, config.num_heads, config.head_dim),
        (rows, keys, config.kv_heads, config.head_dim),
        config.dtype,
        pattern,
        bias is not None,
        config.attention_soft_cap,
      )
      kernel = choose_kernel(config.attention, f"the {self.name}'s {what}", spec)
    return attention_inputs(pattern, queries, keys, bias, kernel)

  def _blocks(self, x, context):
    config, period = self.config, len(self.config.attention_windows)
    lead = unscanned_layers(config, self.num_layers)
    block = block_class(config, scanned=False)
    for i in range(lead):
      x, _ = block(config, i % period, first=i == 0, name=f"layers_{i}")(x, context)
    if lead == self.num_layers:
      return x
    shared, cycles = config.share_layers, (self.num_layers - lead) // period
    scanned = config.scan_layers  # Otherwise the layers are shared, and the loop is unrolled.
    name = "shared_layers" if shared else "layers"  # "layers" says that axis 0 counts them.
    scan = functools.partial(
      nn.scan,
      variable_axes={"cache": 0} if shared else {"params": 0, "cache": 0},
      variable_broadcast="params" if shared else False,
      split_rngs={"params": not shared, "dropout": True},
      in_axes=nn.broadcast,
      length=cycles,
      unroll=1 if scanned else cycles,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )
    if period == 1:
      return scan(block_class(config, scanned))(config, scanned=scanned, name=name)(x, context)[0]
    kinds = tuple(i % period for i in range(lead, lead + period))
    return scan(Cycle)(config, kinds, scanned, name=name)(x, context)[0]

  def _cache_length(self):
    """S of the cache [..., B, S, K, H] that the blocks will write to."""
    return jax.tree.leaves(self.variables["cache"])[0].shape[-3]


def block_class(config: TransformerConfig, scanned: bool) -> type[Block]:
  """Block, made to recompute what the configuration says is not kept."""
  if config.remat == "none":
    return Block
  # Inside a scan the loop already keeps XLA from merging the two forward passes.
  return nn.remat(Block, policy=REMAT_POLICIES[config.remat], prevent_cse=not scanned)


def unscanned_layers(config: TransformerConfig, num_layers: int) -> int:
  """How many layers stand unrolled before the scan, which runs over whole cycles of like layers.

  Shared layers are always scanned: they are one body.
  """
  if config.share_layers:
    return 0
  if not config.scan_layers:
    return num_layers
  period = len(config.attention_windows)
  lead = num_layers % period
  return lead if config.first_attention_norm or lead else min(period, num_layers)


def layer_path(
  config: TransformerConfig, num_layers: int, layer: int
) -> tuple[tuple[str, ...], int | None]:
  """Where the parameters of a layer are: the path in its stack's tree, the index on axis 0.

  22 layers with windows (None, 64, 64), scanned: 0 is at layers_0; 1 at layers/block_0, index 0;
  21 at layers/block_2, index 6. Without a cycle, 3 is at layers, index 3. The index is None where
  nothing is stacked, as of layers_0 and of shared_layers.
  """
  lead, period = unscanned_layers(config, num_layers), len(config.attention_windows)
  if layer < lead:
    return (f"layers_{layer}",), None
  cycle, place = divmod(layer - lead, period)
  name = "shared_layers" if config.share_layers else "layers"
  path = (name,) if period == 1 else (name, f"block_{place}")
  return path, None if config.share_layers else cycle
