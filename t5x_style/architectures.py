"""The architectures of a model, and which side of each one predicts tokens."""

from typing import Literal, get_args

Architecture = Literal["encoder_decoder", "decoder_only", "encoder_only"]
ARCHITECTURES: tuple[str, ...] = get_args(Architecture)


def predicted_side(architecture: str) -> str:
  """Returns the side whose tokens are predicted, "encoder" or "decoder".

  The names of its features begin with it: decoder_target_tokens, decoder_loss_weights.
  """
  return "encoder" if architecture == "encoder_only" else "decoder"
