"""FLOPs of a training step by formula, and the peaks they are held against."""

import jax

from t5x_style.models import TransformerConfig

# Dense bf16 FLOP/s of one device as JAX counts devices, from the vendors' data sheets.
PEAK_FLOPS = {
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5e": 197e12,
  "TPU v5": 459e12,
  "TPU v5p": 459e12,
  "TPU v6 lite": 918e12,
  "TPU v6e": 918e12,
  "NVIDIA A100": 312e12,
  "NVIDIA H100 PCIe": 756e12,
  "NVIDIA H100": 989e12,
  "NVIDIA H200": 989e12,
}


def device_peak(device: jax.Device) -> float | None:
  """Peak bf16 FLOP/s of a device, None where it is not known (CPUs)."""
  names = [name for name in PEAK_FLOPS if device.device_kind.startswith(name)]
  return PEAK_FLOPS[max(names, key=len)] if names else None


def step_flops(
  config: TransformerConfig,
  batch_size: int,
  encoder_length: int = 0,
  decoder_length: int = 0,
  target_positions: int | None = None,
) -> float:
  """FLOPs of one training step: three times the matrix products of the forward pass.

  A product [M, K] x [K, N] counts 2 M K N. Causal self-attention counts half of its square.
  Recomputation (remat) and everything that is not a matrix product count nothing.

  Args:
    encoder_length, decoder_length: tokens per row on each side.
    target_positions: positions per row that reach the head; None is every position of the side
      that predicts.
  """
  width = config.num_heads * config.head_dim
  kv_width = config.kv_heads * config.head_dim
  mlp = 2 * (len(config.mlp_activations) + 1) * config.emb_dim * config.mlp_dim

  def attention(queries: int, keys: int, share: float = 1.0) -> float:
    projections = 2 * config.emb_dim * (2 * width * queries + 2 * kv_width * keys)
    return projections + share * 4 * width * queries * keys

  encoder = attention(encoder_length, encoder_length) + mlp * encoder_length
  decoder = attention(decoder_length, decoder_length, share=0.5) + mlp * decoder_length
  if config.architecture == "encoder_decoder":
    decoder += attention(decoder_length, encoder_length)
  if target_positions is None:
    target_positions = decoder_length if config.num_decoder_layers else encoder_length
  head = 2 * config.emb_dim * config.vocab_size * target_positions
  if config.head_transform:
    head += 2 * config.emb_dim**2 * target_positions
  row = config.num_encoder_layers * encoder + config.num_decoder_layers * decoder + head
  return 3.0 * batch_size * row
