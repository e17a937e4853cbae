"""What a training step needs, by formula: memory, traffic and collectives before any compiling.

The numbers choose what is worth compiling; the compiler's own replace them where there are some.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from t5x_style.losses import chunks_of_device
from t5x_style.models import TransformerConfig
from t5x_style.models.config import Remat
from t5x_style.planning.collectives import Collective
from t5x_style.training import flops


@dataclasses.dataclass(frozen=True)
class Layout:
  """How a batch and the layers lie on the devices of a run."""

  mesh: Mapping[str, int]  # devices along every axis
  microbatches: int
  remat: Remat
  batch_size: int
  encoder_length: int = 0
  decoder_length: int = 0
  target_positions: int | None = None  # of a row, that meet the vocabulary; None: all
  fused_attention: bool = False  # the kernel that keeps no attention weights

  def rows(self) -> float:
    """Of a microbatch, on one device."""
    return self.batch_size / (self.mesh["data"] * self.mesh["fsdp"] * self.microbatches)


def recomputed_flops(config: TransformerConfig, layout: Layout) -> float:
  """What remat adds to flops.step_flops: the layers' forward products, or those of attention.

  "full" makes a layer's products again, "dots" those between queries, keys and values alone, and
  where a Pallas kernel computes attention, none.
  """
  lengths = {"encoder_length": layout.encoder_length, "decoder_length": layout.decoder_length}
  layers = flops.step_flops(config, layout.batch_size, **lengths, target_positions=0) / 3
  if layout.remat == "full":
    return layers
  if layout.remat != "dots" or layout.fused_attention:
    return 0.0
  width, encoder, decoder = (
    4 * config.num_heads * config.head_dim,
    config.num_encoder_layers,
    config.num_decoder_layers,
  )
  pairs = encoder * layout.encoder_length**2 + decoder * layout.decoder_length**2 / 2
  if config.architecture == "encoder_decoder":
    pairs += decoder * layout.decoder_length * layout.encoder_length
  return layout.batch_size * width * pairs


def activation_bytes(config: TransformerConfig, layout: Layout) -> float:
  """Of one device: what the layers keep for the backward pass, and the largest moment in it."""
  size = np.dtype(_numpy(config.dtype)).itemsize
  tensor, sequence = layout.mesh["tensor"], layout.mesh["sequence"]
  kept, working = 0.0, 0.0
  for layers, length, keys, crossing in _stacks(config, layout):
    tokens = layout.rows() * length / sequence
    width = (config.num_heads + 2 * config.kv_heads) * config.head_dim / tensor
    gates = len(config.mlp_activations) * config.mlp_dim / tensor
    passes = 2 if crossing else 1
    dots = passes * (width + config.emb_dim) + gates + config.emb_dim
    weights, attended = config.num_heads / tensor * tokens * sum(keys), 0.0
    if layout.fused_attention:
      weights, attended = 0.0, passes * config.num_heads * config.head_dim / tensor
    within = tokens * (2 * dots + gates + passes * width + 4 * config.emb_dim) * size
    saved = {
      "full": tokens * config.emb_dim * size,
      "dots": tokens * (config.emb_dim + dots + attended) * size,
      "none": within + weights * (4 + 2 * size),
    }[layout.remat]
    kept += layers * saved
    working = max(working, within + weights * (8 + size))
  return kept + working + _head_bytes(config, layout)


def gathered_bytes(config: TransformerConfig, layer_parameters: float, layout: Layout) -> float:
  """Of one device: two layers' whole kernels, the next one on its way while one is at work."""
  size = np.dtype(_numpy(config.dtype)).itemsize
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
  """Bytes that one chip reads and writes in a step, about.

  Args:
    layer_parameters: of all layers together.
    state_bytes, parameter_bytes: of one device.
  """
  size = np.dtype(_numpy(config.dtype)).itemsize
  passes = 3 if layout.remat == "none" else 4
  kernels = passes * layout.microbatches * 2 * layer_parameters * size / layout.mesh["tensor"]
  update = 2 * state_bytes + 3 * parameter_bytes
  moved = 0.0
  for layers, length, keys, _ in _stacks(config, layout):
    tokens = layout.rows() * layout.microbatches * length / layout.mesh["sequence"]
    width = (2 * config.num_heads + 2 * config.kv_heads) * config.head_dim
    wide = (width + (len(config.mlp_activations) + 1) * config.mlp_dim) / layout.mesh["tensor"]
    one = tokens * (8 * config.emb_dim + 2 * wide) * size
    if not layout.fused_attention:
      one += 4 * tokens * sum(keys) * config.num_heads / layout.mesh["tensor"] * size
    moved += layers * passes * one
  return kernels + update + moved


def collectives(
  config: TransformerConfig, layout: Layout, layer_parameters: float, other_parameters: float
) -> list[Collective]:
  """What a step sends, by the textbook; every group is taken to lie along one axis of the torus.

  Kernels are gathered over fsdp for every pass and their gradients scattered, once a microbatch
  (summed whole where fsdp takes all chips: libtpu 0.0.42 and 0.0.52 do so, asked or not); what is
  left of the gradients is summed over data; tensor sums two activations of a layer a pass, and
  sequence gathers keys and values.
  """
  size = np.dtype(_numpy(config.dtype)).itemsize
  mesh, times = layout.mesh, layout.microbatches
  passes = 3 if layout.remat == "full" else 2
  kernels = int(layer_parameters * size / mesh["tensor"])
  table = int(other_parameters * size / mesh["tensor"])
  found = []

  def add(kind: str, axis: str, count: int, amount: float, torus_axes: tuple[int, ...]) -> None:
    if mesh[axis] > 1 and amount:
      found.append(
        Collective(kind, "ici", (), int(amount), mesh[axis], torus_axes, count, True, axis)
      )

  scattered = "all-reduce" if mesh["fsdp"] == math.prod(mesh.values()) else "reduce-scatter"
  add("all-gather", "fsdp", passes * times, kernels, (0, 1))
  add(scattered, "fsdp", times, kernels, (0, 1))
  add("all-gather", "fsdp", times, table, (0, 1))
  add(scattered, "fsdp", times, 2 * table, (0, 1))
  add("all-reduce", "data", times, (kernels + 2 * table) / mesh["fsdp"], (0,))
  for layers, length, keys, crossing in _stacks(config, layout):
    tokens = layout.rows() * length / mesh["sequence"]
    sums = (2 + crossing) * layers
    add("all-reduce", "tensor", passes * times * sums, tokens * config.emb_dim * size, (0,))
    heads = 2 * config.kv_heads * config.head_dim * size / mesh["tensor"]
    amount = layout.rows() * sum(keys) * heads
    add("all-gather", "sequence", (passes + 1) * times * layers, amount, (0,))
  return found


def _stacks(config, layout):
  """(layers, queries, keys of each attention, whether it crosses) of encoder and decoder."""
  if config.num_encoder_layers:
    length = layout.encoder_length
    yield config.num_encoder_layers, length, (length,), False
  if config.num_decoder_layers:
    length, crossing = layout.decoder_length, config.architecture == "encoder_decoder"
    keys = (length, layout.encoder_length) if crossing else (length,)
    yield config.num_decoder_layers, length, keys, crossing


def _head_bytes(config, layout):
  """The head's kernel gathered, its gradient in float32, a chunk of logits."""
  size = np.dtype(_numpy(config.dtype)).itemsize
  kernel = config.emb_dim * config.vocab_size / layout.mesh["tensor"]
  length = layout.target_positions or layout.decoder_length or layout.encoder_length
  tokens = math.ceil(layout.rows() * length / layout.mesh["sequence"])
  vocab_size = config.vocab_size // layout.mesh["tensor"]
  logits = chunks_of_device(tokens, vocab_size, config.dtype, "tpu").bytes
  return kernel * (4 + size) + logits


def _numpy(dtype: str):
  import ml_dtypes

  return getattr(ml_dtypes, dtype, None) or dtype


def divisors(number: int) -> list[int]:
  """Of a positive number, in order."""
  return [n for n in range(1, math.isqrt(number) + 1) if number % n == 0] + [
    number // n for n in range(math.isqrt(number), 0, -1) if number % n == 0 and n * n != number
  ]
