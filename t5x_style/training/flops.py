"""FLOPs of a training step by formula."""

import itertools

from t5x_style.models import TransformerConfig


def step_flops(
  config: TransformerConfig,
  batch_size: int,
  encoder_length: int = 0,
  decoder_length: int = 0,
  target_positions: int | None = None,
) -> float:
  """Returns the FLOPs of one training step: three times the matrix products of the forward pass.

  A product [M, K] x [K, N] counts 2 M K N. Causal self-attention counts half of its square, and
  layers with a window count the pairs within it. Of a mixture of experts, the router and the
  experts of each token count, as if no token were padding and none were dropped. Recomputation
  (remat) and everything that is not a matrix product count nothing.

  Args:
    batch_size: rows of the global batch.
    encoder_length, decoder_length: tokens per row on each side.
    target_positions: positions per row that reach the head; None is every position of the side
      that predicts.
  """
  row = _stack_flops(config, config.num_encoder_layers, encoder_length)
  row += _stack_flops(config, config.num_decoder_layers, decoder_length, share=0.5)
  if config.architecture == "encoder_decoder":
    pairs = decoder_length * encoder_length
    row += config.num_decoder_layers * _attention_flops(
      config, decoder_length, encoder_length, pairs
    )
  if config.factorized_dim is not None:
    row += 2 * config.factorized_dim * config.emb_dim * (encoder_length + decoder_length)
  if config.pooled_classes and config.num_encoder_layers:
    row += 2 * config.emb_dim * (config.emb_dim + config.pooled_classes)
  if target_positions is None:
    target_positions = decoder_length if config.num_decoder_layers else encoder_length
  head = config.table_dim if config.tie_embeddings else config.emb_dim
  row += 2 * head * config.vocab_size * target_positions
  if config.head_transform:
    row += 2 * config.emb_dim * head * target_positions
  return 3.0 * batch_size * row


def _stack_flops(config: TransformerConfig, layers: int, length: int, share: float = 1.0) -> float:
  """Returns the FLOPs of self-attention and MLPs for a row.

  Args:
    share: of the pairs of positions that attend to each other; 0.5 for causal attention.
  """
  windows = itertools.islice(itertools.cycle(config.attention_windows), layers)
  return sum(
    _attention_flops(config, length, length, share * _pairs(length, window))
    + _mlp_flops(config, layer) * length
    for layer, window in enumerate(windows)
  )


def _mlp_flops(config: TransformerConfig, layer: int) -> float:
  """Returns the FLOPs of a layer's MLP for a token: with experts, those that it goes to."""
  products = 2 * (len(config.mlp_activations) + 1) * config.emb_dim
  experts = config.experts
  if experts is None or not config.has_experts(layer):
    return products * config.mlp_dim
  width = experts.experts_per_token * (experts.mlp_dim or config.mlp_dim)
  return products * width + 2 * config.emb_dim * experts.num_experts


def _attention_flops(config: TransformerConfig, queries: int, keys: int, pairs: float) -> float:
  """Returns the FLOPs of one layer's attention for a row, projections included.

  Args:
    pairs: number of pairs of a query and a key that are multiplied.
  """
  width, kv_width = config.num_heads * config.head_dim, config.kv_heads * config.head_dim
  projections = 2 * config.emb_dim * (2 * width * queries + 2 * kv_width * keys)
  return projections + 4 * width * pairs


def _pairs(length: int, window: int | None) -> int:
  """Returns how many pairs of positions are at most `window` apart; None: all pairs."""
  reach = length - 1 if window is None else min(window, length - 1)
  return length * (2 * reach + 1) - reach * (reach + 1)
