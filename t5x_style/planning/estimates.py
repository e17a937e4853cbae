"""What a training step needs, by formula: memory, traffic and collectives, without compiling it.

The numbers choose what is worth compiling; where a program is compiled, its own replace them.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax.numpy as jnp

from t5x_style.losses import chunks_of_device
from t5x_style.models import TransformerConfig
from t5x_style.planning import expert_estimates
from t5x_style.planning.collectives import Collective
from t5x_style.planning.layouts import Layout
from t5x_style.training import flops


class Parameters(NamedTuple):
  """How many parameters a model has.

  Attributes:
    layers: of all layers, without their experts.
    experts: of all experts of all layers.
    others: of embeddings and the head.
  """

  layers: int
  experts: int
  others: int

  def in_layers(self, mesh: Mapping[str, int]) -> float:
    """Returns how many a device needs for all layers, those gathered that fsdp splits."""
    return (self.layers + self.experts / mesh.get("expert", 1)) / mesh["tensor"]


class _Layers(NamedTuple):
  """Layers of one kind: of the encoder or the decoder, with or without experts."""

  number: int
  length: int  # tokens per row
  keys: tuple[int, ...]  # of each attention of a layer
  crossing: bool  # whether the layers have cross-attention
  has_experts: bool


def _kinds_of_layers(config: TransformerConfig, layout: Layout) -> Iterator[_Layers]:
  crossing = config.architecture == "encoder_decoder"
  across = (layout.encoder_length,) if crossing else ()
  for layers, length, other_keys in (
    (config.num_encoder_layers, layout.encoder_length, ()),
    (config.num_decoder_layers, layout.decoder_length, across),
  ):
    with_experts = expert_estimates.layers_with_experts(config, layers)
    for has_experts, number in ((False, layers - with_experts), (True, with_experts)):
      if number:
        yield _Layers(number, length, (length, *other_keys), bool(other_keys), has_experts)


def added_flops(config: TransformerConfig, layout: Layout) -> float:
  """Returns the FLOPs that a step has in addition to flops.step_flops.

  Remat "full" recomputes all products of the layers' forward pass, "dots" only those of experts and
  those between queries, keys and values, the latter not where a fused kernel computes the
  attention. Experts with a capacity also compute the rows that no token takes.
  """
  return _recomputed_flops(config, layout) + expert_estimates.flops_of_empty_rows(config, layout)


def _recomputed_flops(config: TransformerConfig, layout: Layout) -> float:
  lengths = {"encoder_length": layout.encoder_length, "decoder_length": layout.decoder_length}
  layers = flops.step_flops(config, layout.batch_size, **lengths, target_positions=0) / 3
  if layout.remat == "full":
    return layers
  if layout.remat != "dots":
    return 0.0
  of_experts = expert_estimates.flops_of_choices(config, layout)
  if layout.fused_attention:
    return of_experts
  encoder, decoder = config.num_encoder_layers, config.num_decoder_layers
  pairs = encoder * layout.encoder_length**2 + decoder * layout.decoder_length**2 / 2
  if config.architecture == "encoder_decoder":
    pairs += decoder * layout.decoder_length * layout.encoder_length
  return of_experts + layout.batch_size * 4 * config.num_heads * config.head_dim * pairs


def activation_bytes(config: TransformerConfig, layout: Layout, platform: str = "tpu") -> float:
  """Returns the most bytes of activations that a device holds, which is in the backward pass.

  It then holds what all layers keep for that pass, one layer's working memory, and the head's.

  Args:
    platform: "cpu", "gpu" or "tpu"; each has its own budget for logits.
  """
  kinds = [(kind, _layer_bytes(config, layout, kind)) for kind in _kinds_of_layers(config, layout)]
  kept = sum(kind.number * each.kept for kind, each in kinds)
  working = max((each.working for _, each in kinds), default=0.0)
  return kept + working + _head_bytes(config, layout, platform)


def gathered_bytes(config: TransformerConfig, parameters: Parameters, layout: Layout) -> float:
  """Returns a device's bytes of the kernels that fsdp gathers: of a layer at work and the next."""
  if layout.mesh["fsdp"] == 1:
    return 0.0
  layers = config.num_encoder_layers + config.num_decoder_layers
  two = 2 * parameters.layers / layers
  if config.experts is not None:
    with_experts = sum(
      expert_estimates.layers_with_experts(config, number)
      for number in (config.num_encoder_layers, config.num_decoder_layers)
    )
    of_layer = parameters.experts / with_experts / layout.mesh.get("expert", 1)
    two += of_layer * (2 if config.experts.every == 1 else 1)
  return two * jnp.dtype(config.dtype).itemsize / layout.mesh["tensor"]


def hbm_traffic(
  config: TransformerConfig,
  layout: Layout,
  parameters: Parameters,
  state_bytes: float,
  parameter_bytes: float,
) -> float:
  """Returns the bytes that one chip reads and writes in a step, approximately.

  Args:
    state_bytes: of parameters and optimizer state on one device.
    parameter_bytes: of the parameters on one device.
  """
  size = jnp.dtype(config.dtype).itemsize
  passes = 3 if layout.remat == "none" else 4
  kernels = passes * layout.microbatches * 2 * parameters.in_layers(layout.mesh) * size
  update = 2 * state_bytes + 3 * parameter_bytes
  moved = 0.0
  for kind in _kinds_of_layers(config, layout):
    tokens = layout.rows() * layout.microbatches * kind.length / layout.mesh["sequence"]
    width = (2 * config.num_heads + 2 * config.kv_heads) * config.head_dim
    mlp, vectors = float(config.mlp_dim), 8.0
    if kind.has_experts:
      rows = expert_estimates.computed_rows(config, kind.length)
      mlp, vectors = rows * expert_estimates.width(config), 8 + 4 * rows
    wide = (width + (len(config.mlp_activations) + 1) * mlp) / layout.mesh["tensor"]
    one = tokens * (vectors * config.emb_dim + 2 * wide) * size
    if not layout.fused_attention:
      one += 4 * tokens * sum(kind.keys) * config.num_heads / layout.mesh["tensor"] * size
    moved += kind.number * passes * one
  return kernels + update + moved


def collectives(
  config: TransformerConfig,
  layout: Layout,
  parameters: Parameters,
  across: Mapping[str, int],
) -> list[Collective]:
  """Returns what a step sends between devices if it is partitioned as textbooks describe.

  Over fsdp, kernels are gathered for every pass and their gradients are scattered, once per
  microbatch (where fsdp takes all chips, libtpu 0.0.42 and 0.0.52 sum the whole gradients instead).
  Over data, and over expert for all but the experts, the scattered gradients are summed. Over
  tensor, two activations of a layer are summed in each pass. Over sequence, keys and values travel
  in a ring. Over expert, tokens travel to their experts and back in each pass. Each group of
  devices is assumed to be along one axis of the torus; fsdp, along two.

  A group that spans slices or nodes sends twice ("How to Scale Your Model", Austin et al. 2025, its
  part on GPUs): within each of them the whole array, and between them the part of it that a device
  has there.

  Args:
    across: slices or nodes along each axis of the mesh; axes left out are 1.
  """
  size = jnp.dtype(config.dtype).itemsize
  mesh, times = layout.mesh, layout.microbatches
  passes = 3 if layout.remat == "full" else 2
  kernels = int(parameters.in_layers(mesh) * size)
  experts = int(parameters.experts * size / mesh.get("expert", 1) / mesh["tensor"])
  table = int(parameters.others * size / mesh["tensor"])
  found = []

  def add(
    kind: str, axis: str, count: int, amount: float, torus_axes: tuple[int, ...], copies: int = 1
  ) -> None:
    outside = across.get(axis, 1)
    inside = copies * mesh[axis] // outside
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
  # All but the experts is copied along "expert", too.
  copies = mesh.get("expert", 1)
  add("all-reduce", "data", times, (kernels - experts + 2 * table) / mesh["fsdp"], (0,), copies)
  add("all-reduce", "data", times, experts / mesh["fsdp"], (0,))
  for kind in _kinds_of_layers(config, layout):
    tokens = layout.rows() * kind.length / mesh["sequence"]
    sums = (2 + kind.crossing) * kind.number
    add("all-reduce", "tensor", passes * times * sums, tokens * config.emb_dim * size, (0,))
    heads = 2 * config.kv_heads * config.head_dim * size / mesh["tensor"]
    amount = layout.rows() * sum(kind.keys) * heads
    add("all-gather", "sequence", (passes + 1) * times * kind.number, amount, (0,))
    if kind.has_experts and mesh.get("expert", 1) > 1:
      for name, each, rows in expert_estimates.exchanges(config, layout, kind.length):
        amount = tokens * rows * config.emb_dim * size
        add(name, "expert", each * times * kind.number, amount, (0,))
  return found


class _LayerBytes(NamedTuple):
  kept: float  # for the backward pass
  working: float  # while the layer's gradient is computed


def _layer_bytes(config: TransformerConfig, layout: Layout, kind: _Layers) -> _LayerBytes:
  """Returns a device's bytes of one layer's activations."""
  size = jnp.dtype(config.dtype).itemsize
  tensor = layout.mesh["tensor"]
  tokens = layout.rows() * kind.length / layout.mesh["sequence"]
  width = (config.num_heads + 2 * config.kv_heads) * config.head_dim / tensor
  gates = len(config.mlp_activations) * config.mlp_dim / tensor
  passes = 2 if kind.crossing else 1
  dots = passes * (width + config.emb_dim) + gates + config.emb_dim
  others = gates + passes * width + 4 * config.emb_dim
  saved = dots  # with "dots"
  if kind.has_experts:
    rows = expert_estimates.held_rows(config, layout, kind.length)
    gates = rows * len(config.mlp_activations) * expert_estimates.width(config) / tensor
    saved = passes * (width + config.emb_dim)  # Products of experts are recomputed.
    dots = saved + gates + 2 * rows * config.emb_dim  # with the rows that the experts read
    others = gates + passes * width + 4 * config.emb_dim
    others += expert_estimates.router_bytes(config) / size
  weights, attended = config.num_heads / tensor * tokens * sum(kind.keys), 0.0
  if layout.fused_attention:
    weights, attended = 0.0, passes * config.num_heads * config.head_dim / tensor
  within = tokens * (2 * dots + others) * size
  kept = {
    "full": tokens * config.emb_dim * size,
    "dots": tokens * (config.emb_dim + saved + attended) * size,
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
