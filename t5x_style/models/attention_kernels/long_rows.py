"""Attention of long rows with T5's bias, for TPUs, where splash attention has no bias.

It holds no logits, and no bias of their size: see blockwise.py. It is ring attention on one device.
"""

from t5x_style.models.attention_kernels import ring
from t5x_style.models.attention_kernels.head_sharding import heads_error
from t5x_style.models.attention_kernels.pattern import AttentionSpec
from t5x_style.partitioning.active_mesh import num_shards

PLATFORM, TITLE = "tpu", "the kernel for long rows"
PATTERN_FIELDS = ring.PATTERN_FIELDS

make_mask, attend = ring.make_mask, ring.attend


def reason_against(spec: AttentionSpec) -> str | None:
  """Returns why this kernel cannot compute this, or None if it can."""
  if num_shards(("batch", "length"))[1] > 1:
    return "the kernel for long rows cannot split the length over devices"
  return ring.lengths_error(spec) or heads_error(spec)
