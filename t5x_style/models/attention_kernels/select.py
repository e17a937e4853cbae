"""Selects the kernel that computes an attention, by the platform, the shapes and the pattern."""

from collections.abc import Mapping
from typing import Any

import jax

from t5x_style.errors import UserError
from t5x_style.models.attention_kernels import (
  cpu_blocks,
  cudnn,
  long_rows,
  ring,
  short_rows,
  splash,
  tokamax_flash,
  xla,
)
from t5x_style.models.attention_kernels.pattern import (
  XLA,
  AttentionInputs,
  AttentionSpec,
  KernelChoice,
  Pattern,
)
from t5x_style.partitioning import active_mesh

# Each kernel is a module with
#   PLATFORM: "cpu", "gpu" or "tpu"; None runs anywhere;
#   TITLE: what error messages call the kernel;
#   PATTERN_FIELDS: the fields of Pattern that the kernel computes;
#   reason_against(spec): why the kernel cannot compute this on its platform, or None;
#   make_mask(pattern, L, S): the mask that it needs, made once for all layers, or None;
#   attend(query, key, value, inputs, scale, soft_cap): as attention.attend.
KERNELS: Mapping[str, Any] = {
  "xla": xla,
  "cudnn": cudnn,
  "splash": splash,
  "short": short_rows,
  "blocked": cpu_blocks,
  "tokamax": tokamax_flash,
  "ring": ring,
  "long": long_rows,
}

# The kernels with dropout of attention weights: others never hold the weights as an array.
DROP_WEIGHTS = frozenset({"xla"})

# The kernels that take a bias by distance, [N, 2 R + 1] in float32, not one for each query and key.
BIAS_BY_DISTANCE = frozenset({"ring", "long"})

# The kernels whose queries that see no key give zeros and no gradient without help.
_ZERO_WITHOUT_KEYS = frozenset({"ring", "long"})

_SHORT = 512  # Up to this many keys "short" comes before splash.
_LONG = 1024  # From more keys on, "long" computes a bias where "short" cannot.

_DEVICES = {"cpu": "CPUs", "gpu": "NVIDIA GPUs", "tpu": "TPUs"}


def attention_inputs(
  pattern: Pattern,
  query_length: int,
  key_length: int,
  bias: jax.Array | None = None,
  kernel: KernelChoice = XLA,
) -> AttentionInputs:
  """Returns the inputs of an attention of `query_length` queries to `key_length` keys."""
  mask = KERNELS[kernel.name].make_mask(pattern, query_length, key_length)
  sees_any_key = None if kernel.name in _ZERO_WITHOUT_KEYS else pattern.sees_any_key()
  return AttentionInputs(pattern, mask, bias, sees_any_key, kernel)


def choose_kernel(requested: str, attention: str, spec: AttentionSpec) -> KernelChoice:
  """Returns the requested kernel; for "auto" the fastest that can compute the attention.

  Args:
    requested: the value of TransformerConfig.attention.
    attention: its name in error messages, for example "the decoder's self-attention".

  Raises:
    UserError: the requested kernel cannot compute this attention on these devices.
  """
  (devices,) = active_mesh.num_shards(("batch",))
  if spec.queries[0] % devices:  # A few rows to sample from, not a training batch.
    return KernelChoice("xla", f"{spec.queries[0]} rows do not divide over {devices} devices")
  if requested == "auto":
    return _fastest(spec)
  reason = reason_against(requested, spec)
  if reason:
    advice = f"Set ATTENTION = 'auto', which takes {_fastest(spec).name!r} for it"
    if spec.dropout_rate and reason_against(requested, spec._replace(dropout_rate=0.0)) is None:
      advice += f", or ATTENTION_DROPOUT_RATE = 0.0 in place of {spec.dropout_rate:g}"
    raise UserError(f"ATTENTION = {requested!r} cannot compute {attention}: {reason}. {advice}.")
  return KernelChoice(requested, "requested by ATTENTION")


def reason_against(name: str, spec: AttentionSpec) -> str | None:
  """Returns why a kernel cannot compute an attention on these devices, or None if it can."""
  kernel, platform = KERNELS[name], active_mesh.current_platform()
  if kernel.PLATFORM not in (None, platform):
    needed = _DEVICES[kernel.PLATFORM]
    return f"{kernel.TITLE} runs on {needed}, and the devices are {platform.upper()}s"
  unknown = spec.pattern.fields_in_use() - kernel.PATTERN_FIELDS
  if unknown:
    return f"{kernel.TITLE} does not compute patterns with {' and '.join(sorted(unknown))}"
  if spec.dropout_rate and name not in DROP_WEIGHTS:
    return f"{kernel.TITLE} has no dropout of attention weights"
  return kernel.reason_against(spec)


def _fastest(spec: AttentionSpec) -> KernelChoice:
  platform = active_mesh.current_platform()
  if active_mesh.num_shards(("batch", "length"))[1] > 1:
    fast = ["ring"]
  elif platform == "gpu":
    fast = ["cudnn"]
  elif platform == "tpu" and not spec.bias:
    fast = ["short", "splash"] if spec.keys[1] <= _SHORT else ["splash"]
  elif platform == "tpu":
    # Splash attention has no bias.
    fast = ["short", "long"] if spec.keys[1] > _LONG else ["short"]
  elif cpu_blocks.pays(spec):
    fast = ["blocked"]
  else:
    return KernelChoice("xla", "the fastest on CPUs for rows so short or few")
  reasons: list[str] = []
  for name in fast:
    reason = reason_against(name, spec)
    if reason is None:
      best = (
        "rows are split over devices" if name == "ring" else f"the fastest on {platform.upper()}s"
      )
      return KernelChoice(name, "; ".join(reasons) or best)
    reasons.append(reason)
  return KernelChoice("xla", "; ".join(reasons))
