"""What a training step in PyTorch needs to be this package's: the loss, and which weights decay."""

from typing import Any


def weighted_loss(logits: Any, targets: Any, weights: Any) -> Any:
  """Returns the cross-entropy in float32: its sum over weighted targets, divided by their weight.

  Args:
    logits: [B, L, V].
    targets: int64 [B, L].
    weights: float32 [B, L].
  """
  from torch.nn import functional

  losses = functional.cross_entropy(
    logits.float().view(-1, logits.shape[-1]), targets.flatten(), reduction="none"
  )
  return (losses * weights.flatten()).sum() / weights.sum()


def parameter_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
  """Returns the groups of AdamW: kernels and embeddings decay, as in optimizers.adamw."""
  decay: list[Any] = []
  rest: list[Any] = []
  for name, parameter in model.named_parameters():
    matrix = parameter.ndim > 1 and "relative_attention_bias" not in name
    # BART's bias of the logits has two dimensions.
    (decay if matrix and not name.endswith("bias") else rest).append(parameter)
  return [
    {"params": decay, "weight_decay": weight_decay},
    {"params": rest, "weight_decay": 0.0},
  ]
