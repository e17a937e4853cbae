"""What layers with experts need, by formula; "row" is a token that one expert computes."""

from collections.abc import Iterator

from t5x_style.models import TransformerConfig
from t5x_style.models.expert_computation import capacity
from t5x_style.planning.layouts import Layout


def layers_with_experts(config: TransformerConfig, layers: int) -> int:
  """Returns how many of the first `layers` layers of a stack have experts."""
  return sum(config.has_experts(layer) for layer in range(layers))


def width(config: TransformerConfig) -> int:
  """Returns the hidden units of an expert."""
  assert config.experts is not None
  return config.experts.mlp_dim or config.mlp_dim


def computed_rows(config: TransformerConfig, length: int) -> float:
  """Returns how many rows the experts compute for each token.

  Without a capacity they are the choices of a token. With one, every expert computes all its rows,
  also those that no token takes.

  Args:
    length: tokens of a row of the batch.
  """
  settings = config.experts
  assert settings is not None
  if settings.capacity_factor is None:
    return float(settings.experts_per_token)
  tokens = settings.rows_per_group * length
  return settings.num_experts * capacity(settings, tokens) / tokens


def held_rows(config: TransformerConfig, layout: Layout, length: int) -> float:
  """Returns for how many rows a device has memory, for each of its own tokens.

  Without a capacity all tokens of the devices that share the experts may choose those of one of
  them, so that it has room for all their choices.
  """
  assert config.experts is not None
  rows = computed_rows(config, length)
  return rows if config.experts.capacity_factor else rows * layout.mesh.get("expert", 1)


def router_bytes(config: TransformerConfig) -> float:
  """Returns the bytes of a router's float32 arrays for a token: logits, shares, chosen experts."""
  assert config.experts is not None
  return 4.0 * config.experts.num_experts * (config.experts.experts_per_token + 4)


def flops_of_choices(config: TransformerConfig, layout: Layout) -> float:
  """Returns the FLOPs of all experts in the forward pass of a step: for the tokens' choices."""
  if config.experts is None:
    return 0.0
  return sum(config.experts.experts_per_token * flops for _, flops in _by_side(config, layout))


def flops_of_empty_rows(config: TransformerConfig, layout: Layout) -> float:
  """Returns the FLOPs of a step for rows that are no token's choice; negative if many are dropped.

  The rows of an expert's capacity are computed in every pass, empty or not.
  """
  if config.experts is None:
    return 0.0
  passes = 3 if layout.remat == "none" else 4
  return passes * sum(
    (computed_rows(config, length) - config.experts.experts_per_token) * flops
    for length, flops in _by_side(config, layout)
  )


def exchanges(
  config: TransformerConfig, layout: Layout, length: int
) -> Iterator[tuple[str, int, float]]:
  """Yields (kind of collective, how often in a layer's step, rows for each token of a device).

  With a capacity an all-to-all brings the rows to their experts and another one brings them back;
  without one the devices gather each other's tokens and scatter the sums. The backward pass does
  the same the other way round. Remat repeats the forward pass.
  """
  assert config.experts is not None
  passes = 2 if layout.remat == "none" else 3
  if config.experts.capacity_factor is not None:
    yield "all-to-all", 2 * passes, computed_rows(config, length)
    return
  for kind in ("all-gather", "reduce-scatter"):
    yield kind, passes, float(layout.mesh.get("expert", 1))


def _by_side(config: TransformerConfig, layout: Layout) -> Iterator[tuple[int, float]]:
  """Yields (tokens of a row of the batch, FLOPs of all layers if each token were one expert's row).

  The FLOPs are those of the forward pass of a step.
  """
  row = 2 * (len(config.mlp_activations) + 1) * config.emb_dim * width(config)
  for layers, length in (
    (config.num_encoder_layers, layout.encoder_length),
    (config.num_decoder_layers, layout.decoder_length),
  ):
    if layers:
      tokens = layout.batch_size * length
      yield length, layers_with_experts(config, layers) * tokens * row
