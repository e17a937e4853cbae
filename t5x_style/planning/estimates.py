"""What a training step needs, by formula: memory, traffic and collectives, without compiling it.

The numbers choose what is worth compiling; where a program is compiled, its own replace them.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax.numpy as jnp

from t5x_style.losses import chunks_of_device
from t5x_style.models import TransformerConfig
from t5x_style.planning.collectives import Collective
from t5x_style.planning.layouts import Layout
from t5x_style.training import flops


class _Stack(NamedTuple):
  """The encoder or the decoder."""

  layers: int
  length: int  # tokens per row
  keys: tuple[int, ...]  # of each attention of a layer
  crossing: bool  # whether the layers have cross-attention


def _stacks(config: TransformerConfig, layout: Layout) -> Iterator[_Stack]:
  if config.num_encoder_layers:
    length = layout.encoder_length
    yield _Stack(config.num_encoder_layers, length, (length,), crossing=False)
  if config.num_decoder_layers:
    length, crossing = layout.decoder_length, config.architecture == "encoder_decoder"
    keys = (length, layout.encoder_length) if crossing else (length,)
    yield _Stack(config.num_decoder_layers, length, keys, crossing)


def recomputed_flops(config: TransformerConfig, layout: Layout) -> float:
  """Returns the FLOPs that remat adds to flops.step_flops.

  "full" recomputes all products of the layers' forward pass, "dots" only those between queries,
  keys and values, and none where a fused kernel computes the attention.
  """
  lengths = {"encoder_length": layout.encoder_length, "decoder_length": layout.decoder_length}
  layers = flops.step_flops(config, layout.batch_size, **lengths, target_positions=0) / 3
  if layout.remat == "full":
    return layers
  if layout.remat != "dots" or layout.fused_attention:
    return 0.0
  encoder, decoder = config.num_encoder_layers, config.num_decoder_layers
  pairs = encoder * layout.encoder_length**2 + decoder * layout.decoder_length**2 / 2
  if config.architecture == "encoder_decoder":
    pairs += decoder * layout.decoder_length * layout.encoder_length
  return layout.batch_size * 4 * config.num_heads * config.head_dim * pairs


def activation_bytes(config: TransformerConfig, layout: Layout, platform: str = "tpu") -> float:
  """Returns the most bytes of activations that a device holds, which is in the backward pass.

  It then holds what all layers keep for that pass, one layer's working memory, and the head's.

  Args:
    platform: "cpu", "gpu" or "tpu"; each has its own budget for logits.
  """
  layers = [(stack, _layer_bytes(config, layout, stack)) for stack in _stacks(config, layout)]
  kept = sum(stack.layers * each.kept for stack, each in layers)
  working = max((each.working for _, each in layers), default=0.0)
  return kept + working + _head_bytes(config, layout, platform)


def gathered_bytes(config: TransformerConfig, layer_parameters: float, layout: Layout) -> float:
  """Returns a device's bytes of the kernels that fsdp gathers: of a layer at work and the next."""
  size = jnp.dtype(config.dtype).itemsize
  if layout.mesh["fsdp"] == 1:
    return 0.0
  return 2 * layer_parameters * size / layout.mesh["tensor"]


def hbm_traffic(
  config: TransformerConfig,
  layout: Layout,
  layer_parameters: float,
  state_bytes: float,
  parameter_bytes: float,
) -> float:
  """Returns the bytes that one chip reads and writes in a step, approximately.

  Args:
    layer_parameters: number of parameters of all layers together.
    state_bytes: of parameters and optimizer state on one device.
    parameter_bytes: of the parameters on one device.
  """
  size = jnp.dtype(config.dtype).itemsize
  passes = 3 if layout.remat == "none" else 4
  kernels = passes * layout.microbatches * 2 * layer_parameters * size / layout.mesh["tensor"]
  update = 2 * state_bytes + 3 * parameter_bytes
  moved = 0.0
  for stack in _stacks(config, layout):
    tokens = layout.rows() * layout.microbatches * stack.length / layout.mesh["sequence"]
    width = (2 * config.num_heads + 2 * config.kv_heads) * config.head_dim
    wide = (width + (len(config.mlp_activations) + 1) * config.mlp_dim) / layout.mesh["tensor"]
    one = tokens * (8 * config.emb_dim + 2 * wide) * size
    if not layout.fused_attention:
      one += 4 * tokens * sum(stack.keys) * config.num_heads / layout.mesh["tensor"] * size
    moved += stack.layers * passes * one
  return kernels + update + moved


def collectives(
  config: TransformerConfig,
  layout: Layout,
  layer_parameters: float,
  other_parameters: float,
  across: Mapping[str, int],
) -> list[Collective]:
  """Returns what a step sends between devices if it is partitioned as textbooks describe.

  Over fsdp, kernels are gathered for every pass and their gradients are scattered, once per
  microbatch (where fsdp takes all chips, libtpu 0.0.42 and 0.0.52 sum the whole gradients instead).
  Over data, the scattered gradients are summed. Over tensor, two activations of a layer are summed
  in each pass. Over sequence, keys and values travel in a ring. Each group of devices is assumed to
  be along one axis of the torus; fsdp, along two.

  A group that spans slices or nodes sends twice ("How to Scale Your Model", Austin et al. 2025, its
  part on GPUs): within each of them the whole array, and between them the part of it that a device
  has there.

  Args:
    layer_parameters: number of parameters of all layers together.
    other_parameters: of all others: embeddings and the head.
    across: slices or nodes along each axis of the mesh; axes left out are 1.
  """
  size = jnp.dtype(config.dtype).itemsize
  mesh, times = layout.mesh, layout.microbatches
  passes = 3 if layout.remat == "full" else 2
  kernels = int(layer_parameters * size / mesh["tensor"])
  table = int(other_parameters * size / mesh["tensor"])
  found = []

  def add(kind: str, axis: str, count: int, amount: float, torus_axes: tuple[int, ...]) -> None:
    outside = across.get(axis, 1)
    inside = mesh[axis] // outside
    if inside > 1 and amount:
      found.append(Collective(kind, "ici", (), int(amount), inside, torus_axes, count, True, axis))
    if outside > 1 and amount:
      part = int(amount / inside)
      found.append(Collective(kind, "dcn", (), part, outside, (), count, True, axis))

  scattered = "all-reduce" if mesh["fsdp"] == math.prod(mesh.values()) else "reduce-scatter"
  add("all-gather", "fsdp", passes * times, kernels, (0, 1))
  add(scattered, "fsdp", times, kernels, (0, 1))
  add("all-gather", "fsdp", times, table, (0, 1))
  add(scattered, "fsdp", times, 2 * table, (0, 1))
  add("all-reduce", "data", times, (kernels + 2 * table) / mesh["fsdp"], (0,))
  for stack in _stacks(config, layout):
    tokens = layout.rows() * stack.length / mesh["sequence"]
    sums = (2 + stack.crossing) * stack.layers
    add("all-reduce", "tensor", passes * times * sums, tokens * config.emb_dim * size, (0,))
    heads = 2 * config.kv_heads * config.head_dim * size / mesh["tensor"]
    amount = layout.rows() * sum(stack.keys) * heads
    add("all-gather", "sequence", (passes + 1) * times * stack.layers, amount, (0,))
  return found


class _LayerBytes(NamedTuple):
  kept: float  # for the backward pass
  working: float  # while the layer's gradient is computed


def _layer_bytes(config: TransformerConfig, layout: Layout, stack: _Stack) -> _LayerBytes:
  """Returns a device's bytes of one layer's activations."""
  size = jnp.dtype(config.dtype).itemsize
  tensor = layout.mesh["tensor"]
  tokens = layout.rows() * stack.length / layout.mesh["sequence"]
  width = (config.num_heads + 2 * config.kv_heads) * config.head_dim / tensor
  gates = len(config.mlp_activations) * config.mlp_dim / tensor
  passes = 2 if stack.crossing else 1
  dots = passes * (width + config.emb_dim) + gates + config.emb_dim
  weights, attended = config.num_heads / tensor * tokens * sum(stack.keys), 0.0
  if layout.fused_attention:
    weights, attended = 0.0, passes * config.num_heads * config.head_dim / tensor
  others = gates + passes * width + 4 * config.emb_dim
  within = tokens * (2 * dots + others) * size
  kept = {
    "full": tokens * config.emb_dim * size,
    "dots": tokens * (config.emb_dim + dots + attended) * size,
    # Norms keep their input only, and activation functions are recomputed.
    "none": tokens * (dots + others) * size + weights * (4 + 2 * size),
  }[layout.remat]
  return _LayerBytes(kept, working=within + weights * (8 + size))


def _head_bytes(config: TransformerConfig, layout: Layout, platform: str) -> float:
  """Returns a device's bytes of the head: its gathered kernel, the gradient, a chunk of logits."""
  size = jnp.dtype(config.dtype).itemsize
  kernel = config.emb_dim * config.vocab_size / layout.mesh["tensor"]
  length = layout.target_positions or layout.decoder_length or layout.encoder_length
  tokens = math.ceil(layout.rows() * length / layout.mesh["sequence"])
  vocab_size = config.vocab_size // layout.mesh["tensor"]
  logits = chunks_of_device(tokens, vocab_size, config.dtype, platform).bytes
  return kernel * (4 + size) + logits


def divisors(number: int) -> list[int]:
  """Returns the divisors of a positive number in ascending order."""
  return [n for n in range(1, math.isqrt(number) + 1) if number % n == 0] + [
    number // n for n in range(math.isqrt(number), 0, -1) if number % n == 0 and n * n != number
  ]
