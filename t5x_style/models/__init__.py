"""Networks only: Linen modules, pure functions of (params, batch). No losses, no data, no I/O."""

from t5x_style.models.config import RotaryScaling, TransformerConfig
from t5x_style.models.experts import Experts
from t5x_style.models.stack import layer_path
from t5x_style.models.transformer import (
  Batch,
  Outputs,
  Transformer,
  cross_pattern,
  decoder_pattern,
  encoder_pattern,
  real_tokens,
)

__all__ = [
  "Batch",
  "Experts",
  "Outputs",
  "RotaryScaling",
  "Transformer",
  "TransformerConfig",
  "cross_pattern",
  "decoder_pattern",
  "encoder_pattern",
  "layer_path",
  "real_tokens",
]
