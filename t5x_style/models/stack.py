"""A stack of blocks: the encoder, and the decoder with or without cross-attention."""

import functools

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from t5x_style.models.attention import Attention, CacheUse, RelativeBias
from t5x_style.models.attention_kernels.pattern import (
  OUTPUT_NAME,
  XLA,
  AttentionInputs,
  AttentionSpec,
  Pattern,
)
from t5x_style.models.attention_kernels.select import (
  BIAS_BY_DISTANCE,
  attention_inputs,
  choose_kernel,
)
from t5x_style.models.config import TransformerConfig
from t5x_style.models.expert_layer import ROUTING, ExpertMlp
from t5x_style.models.layers import Dropout, Mlp, Norm

REMAT_POLICIES = {
  # Keeps products with parameters, and the outputs of Pallas kernels for attention.
  "dots": jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    jax.checkpoint_policies.save_only_these_names(OUTPUT_NAME),
  ),
  "full": None,  # The default of jax.checkpoint: keeps only the block's input.
}


class Context(flax.struct.PyTreeNode):
  """What the blocks of a stack share: attention inputs, positions and the encoder's output."""

  self_inputs: tuple[AttentionInputs, ...]  # one for each entry of attention_windows
  positions: jax.Array | None = None  # [B or 1, L], for rotary attention
  encoded: jax.Array | None = None  # [B, S, D]
  cross_inputs: AttentionInputs | None = None  # None if there is no encoder
  cache: CacheUse | None = None  # of self-attention, when decoding
  real: jax.Array | None = None  # [B, L], False on padding, which experts do not compute


class Block(nn.Module):
  """Self-attention, cross-attention if there is an encoder, feed-forward.

  Attributes:
    kind: its place in the cycle of layers (TransformerConfig.layer_cycle).
    first: whether it is the first block of its stack.
    scanned: whether a scan over layers runs it; the compiler then sees forward and backward pass
      separately.
    out_scale: multiplies the initial deviation of the kernels that end a branch.
  """

  config: TransformerConfig
  kind: int = 0
  first: bool = False
  scanned: bool = False
  out_scale: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array, context: Context) -> tuple[jax.Array, None]:
    """Maps [B, L, D] to ([B, L, D], None), the (carry, output) that nn.scan expects."""
    config = self.config

    def self_attention(y):
      return Attention(config, self.out_scale, name="self_attention")(
        y,
        y,
        context.self_inputs[self.kind % len(config.attention_windows)],
        positions=context.positions,
        cache=context.cache,
      )

    def cross_attention(y):
      cache = None if context.cache is None else CacheUse()
      attention = Attention(config, self.out_scale, name="cross_attention")
      return attention(y, context.encoded, context.cross_inputs, cache=cache)

    x = self._residual("self_attention", self_attention, x)
    if context.cross_inputs is not None:
      x = self._residual("cross_attention", cross_attention, x)
    if config.has_experts(self.kind):
      experts = ExpertMlp(config, self.scanned, self.out_scale, name="mlp")
      return self._residual("mlp", lambda y: experts(y, context.real), x), None
    mlp = Mlp(config, self.scanned, self.out_scale, name="mlp")
    return self._residual("mlp", mlp, x), None

  def _residual(self, name, function, x):
    """Pre-norm: x + f(norm(x)) (T5, GPT-2). Post-norm: norm(x + f(x)) (Vaswani 2017, BERT)."""
    dropout = Dropout(self.config, "mlp" if name == "mlp" else "attention")
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
  """One block for each of `kinds`, in turn: the body of a scan over cycles of layers."""

  config: TransformerConfig
  kinds: tuple[int, ...]
  scanned: bool
  out_scale: float

  @nn.compact
  def __call__(self, x: jax.Array, context: Context) -> tuple[jax.Array, None]:
    """Maps [B, L, D] to ([B, L, D], None), the (carry, output) that nn.scan expects."""
    block = block_class(self.config, self.scanned)
    for i, kind in enumerate(self.kinds):
      x, _ = block(
        self.config, kind, scanned=self.scanned, out_scale=self.out_scale, name=f"block_{i}"
      )(x, context)
    return x, None


class Stack(nn.Module):
  """`num_layers` blocks, scanned (compiled once) or unrolled, and the final norm."""

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
    cross_length: int = 0,
    cache: CacheUse | None = None,
    real: jax.Array | None = None,
  ) -> jax.Array:
    """Maps embedded tokens [B, L, D] to hidden states [B, L, D].

    Args:
      pattern: who sees whom in self-attention.
      positions: [B or 1, L], of rotary attention.
      encoded: [B, S, D], the encoder's output, for cross-attention; None if there is no encoder, or
        if its keys and values are in the cache.
      cross_pattern: who sees whom in cross-attention; None: all see all.
      cross_length: S of the encoder's output; 0 if there is no encoder.
      cache: for decoding, what x does with the keys and values before it. With a slot x is
        [B, 1, D], the token in this slot.
      real: bool [B, L], False on padding; None: all are real. Only experts need it.
    """
    config, length, keys = self.config, x.shape[1], x.shape[1]
    slot = None if cache is None else cache.slot
    if cache is not None and slot is not None:
      assert cache.length is not None
      keys = cache.length
      pattern = pattern.replace(query_start=slot)
    bias = self._relative_bias(length, keys, slot)
    # A cache has one query at a time, which needs no fast kernel.
    is_fast = slot is None and not self.is_initializing()
    make_inputs = functools.partial(self._attention_inputs, x.shape[0], is_fast)
    cross = None
    if cross_length:
      cross = make_inputs("cross-attention", cross_pattern or Pattern(), length, cross_length)
    by_window = {
      window: make_inputs("self-attention", pattern.replace(window=window), length, keys, bias)
      for window in config.attention_windows
    }
    context = Context(
      self_inputs=tuple(by_window[window] for window in config.attention_windows),
      positions=positions if config.positions == "rotary" else None,
      encoded=encoded,
      cross_inputs=cross,
      cache=cache,
      real=real,
    )
    x = self._blocks(x, context)
    if config.norm_position == "pre":
      x = Norm(config, name="final_norm")(x)
    return Dropout(config, "end")(x)

  def _relative_bias(self, length, keys, slot):
    """Returns a function from a kernel's name to T5's bias in the form that the kernel takes.

    Returns None for models with other positions. The forms are those of AttentionInputs.bias.
    """
    if self.config.positions != "relative":
      return None
    bias = RelativeBias(self.config, self.bidirectional, name="relative_bias")

    @functools.cache
    def make(by_distance):
      if by_distance:
        return bias.by_distance()
      queries = jnp.arange(length) + (0 if slot is None else slot)
      return bias(jnp.arange(keys)[None, :] - queries[:, None])[None]

    return lambda kernel: make(kernel in BIAS_BY_DISTANCE)

  def _attention_inputs(self, rows, is_fast, name, pattern, queries, keys, bias=None):
    config, kernel = self.config, XLA
    if is_fast:
      spec = AttentionSpec(
        (rows, queries, config.num_heads, config.head_dim),
        (rows, keys, config.kv_heads, config.head_dim),
        config.dtype,
        pattern,
        bias is not None,
        config.attention_soft_cap,
        config.attention_dropout_rate if self.has_rng("dropout") else 0.0,
      )
      kernel = choose_kernel(config.attention, f"the {self.name}'s {name}", spec)
    bias = None if bias is None else bias(kernel.name)
    return attention_inputs(pattern, queries, keys, bias, kernel)

  def _blocks(self, x, context):
    """Runs the blocks: the first ones unrolled where they differ, then the scan over cycles."""
    config, period = self.config, self.config.layer_cycle
    lead, out_scale = unscanned_layers(config, self.num_layers), 1.0
    if config.scale_residual_init:
      out_scale = (self.num_layers * (2 if context.cross_inputs is None else 3)) ** -0.5
    block = functools.partial(block_class(config, scanned=False), out_scale=out_scale)
    for i in range(lead):
      x, _ = block(config, i % period, first=i == 0, name=f"layers_{i}")(x, context)
    if lead == self.num_layers:
      return x
    shared, cycles = config.share_layers, (self.num_layers - lead) // period
    scanned = config.scan_layers  # If not, the layers are shared and the scan is unrolled.
    name = "shared_layers" if shared else "layers"  # Axis 0 of "layers" counts the layers.
    scan = functools.partial(
      nn.scan,
      variable_axes={"cache": 0} if shared else {"params": 0, "cache": 0, ROUTING: 0},
      variable_broadcast="params" if shared else False,
      split_rngs={"params": not shared, "dropout": True},
      in_axes=nn.broadcast,
      length=cycles,
      unroll=1 if scanned else cycles,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )
    if period == 1:
      block = scan(block_class(config, scanned))
      return block(config, scanned=scanned, out_scale=out_scale, name=name)(x, context)[0]
    kinds = tuple(i % period for i in range(lead, lead + period))
    return scan(Cycle)(config, kinds, scanned, out_scale, name=name)(x, context)[0]


def block_class(config: TransformerConfig, scanned: bool) -> type[Block]:
  """Returns Block, wrapped in nn.remat as config.remat says."""
  if config.remat == "none":
    return Block
  # In a scan, XLA cannot merge the recomputed forward pass with the first one anyway.
  return nn.remat(Block, policy=REMAT_POLICIES[config.remat], prevent_cse=not scanned)


def unscanned_layers(config: TransformerConfig, num_layers: int) -> int:
  """Returns how many layers come unrolled before the scan, which runs over whole cycles.

  Shared layers are always scanned, because they are one set of parameters.
  """
  if config.share_layers:
    return 0
  if not config.scan_layers:
    return num_layers
  period = config.layer_cycle
  lead = num_layers % period
  return lead if config.first_attention_norm or lead else min(period, num_layers)


def layer_path(
  config: TransformerConfig, num_layers: int, layer: int
) -> tuple[tuple[str, ...], int | None]:
  """Returns where the parameters of a layer are: (path in its stack's tree, index on axis 0).

  Of 22 scanned layers with windows (None, 64, 64), layer 0 is at layers_0, layer 1 at
  layers/block_0 with index 0, layer 21 at layers/block_2 with index 6. With one window, layer 3 is
  at layers with index 3. The index is None for layers_0 and shared_layers, which are not stacked.
  """
  lead, period = unscanned_layers(config, num_layers), config.layer_cycle
  if layer < lead:
    return (f"layers_{layer}",), None
  cycle, place = divmod(layer - lead, period)
  name = "shared_layers" if config.share_layers else "layers"
  path = (name,) if period == 1 else (name, f"block_{place}")
  return path, None if config.share_layers else cycle
