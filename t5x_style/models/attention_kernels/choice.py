"""Which kernel computes an attention: by the platform, the shapes and what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from t5x_style.errors import UserError
from t5x_style.models.attention_kernels import blocked, cudnn, short, splash, xla
from t5x_style.partitioning.active_mesh import current_platform, num_shards

if TYPE_CHECKING:
  from t5x_style.models.attention import Pattern

# Modules with supports(case), a reason against it or None; make_mask(pattern, L, S), what is made
# once for all layers; and attend(query, key, value, pattern, mask, bias, scale, soft_cap).
KERNELS: Mapping[str, Any] = {
  "xla": xla,
  "cudnn": cudnn,
  "splash": splash,
  "short": short,
  "blocked": blocked,
}

_SHORT = 512  # Keys up to which "short" comes before splash.


class Case(NamedTuple):
  """What is asked of an attention. Sizes are global, not a device's."""

  queries: tuple[int, int, int, int]  # B, L, N, H
  keys: tuple[int, int, int, int]  # B, S, K, H
  dtype: str
  pattern: Pattern
  bias: bool = False
  soft_cap: float | None = None


class Choice(NamedTuple):
  """A kernel's name, and why it is that one."""

  name: str
  reason: str = ""


XLA = Choice("xla")


def choose(asked: str, what: str, case: Case) -> Choice:
  """The kernel that TransformerConfig.attention asks for; "auto" takes the fastest that can do it.

  Args:
    what: the attention that asks, for the error: "the decoder's self-attention".

  Raises:
    UserError: the kernel asked for cannot compute this attention on these devices.
  """
  (devices,) = num_shards(("batch",))
  if case.queries[0] % devices:  # A few rows to sample from: no training batch.
    return Choice("xla", f"{case.queries[0]} rows do not divide over {devices} devices")
  if asked == "auto":
    return _automatic(case)
  reason = KERNELS[asked].supports(case)
  if reason:
    raise UserError(
      f"ATTENTION = {asked!r} cannot compute {what}: {reason}. Set ATTENTION = 'auto', which takes "
      f"{_automatic(case).name!r} for it."
    )
  return Choice(asked, "asked for by ATTENTION")


def _automatic(case: Case) -> Choice:
  platform = current_platform()
  if platform == "gpu":
    fast = ["cudnn"]
  elif platform == "tpu" and not case.bias:
    fast = ["short", "splash"] if case.keys[1] <= _SHORT else ["splash"]
  elif platform == "tpu":
    fast = ["short"]  # Splash attention has no bias.
  elif blocked.pays(case):
    fast = ["blocked"]
  else:
    return Choice("xla", "the fastest on CPUs for rows so short or few")
  reasons: list[str] = []
  for name in fast:
    reason = KERNELS[name].supports(case)
    if reason is None:
      return Choice(name, "; ".join(reasons) or f"the fastest on {platform.upper()}s")
    reasons.append(reason)
  return Choice("xla", "; ".join(reasons))
