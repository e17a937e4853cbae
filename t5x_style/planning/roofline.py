"""The least time a step can take: each part of the hardware at its published rate.

All parts are assumed to work at the same time, so that the slowest one determines the time ("How to
Scale Your Model", Austin et al. 2025, parts 1 and 3). Real steps take longer: latency is left out,
and no matrix product reaches the peak.
"""

import dataclasses
import math
from collections.abc import Iterable

from t5x_style.hardware import GpuChip
from t5x_style.planning.collectives import Collective
from t5x_style.planning.topologies import Topology


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Seconds for which each part of a chip is busy in a step.

  Attributes:
    compute: matrix products at the peak, including those that remat recomputes.
    hbm: reading and writing memory.
    ici: the links between the chips of a slice, or NVLink between the GPUs of a node.
    dcn: the network between slices or nodes.
    model_compute: matrix products without recomputed ones, which is what MFU counts.
    others: kernels that are neither products nor attention, of which each waits for the one before
      it: what they read and write, from the compiled program. None if it is not known.
    expected: seconds of a step as they were on such a device, up to the errors of one fitted
      constant; None where it was not measured.
  """

  compute: float
  hbm: float
  ici: float
  dcn: float
  model_compute: float
  others: float | None = None
  expected: float | None = None

  @property
  def seconds(self) -> float:
    """The least time of a step."""
    return max(self.compute, self.hbm, self.ici, self.dcn)

  @property
  def bound_by(self) -> str:
    parts = {name: getattr(self, name) for name in ("compute", "hbm", "ici", "dcn")}
    return max(parts, key=lambda name: parts[name])

  @property
  def mfu_bound(self) -> float:
    """The highest possible MFU: the model's FLOPs over what the chips could do in that time."""
    return self.model_compute / self.seconds


def roofline(
  topology: Topology,
  collectives: Iterable[Collective],
  *,
  model_flops: float,
  executed_flops: float,
  hbm_bytes: float,
  other_bytes: float | None = None,
) -> Roofline:
  """Returns the roofline of a step.

  Args:
    model_flops: FLOPs of all chips together, without what remat recomputes.
    executed_flops: the same with it.
    hbm_bytes: bytes that one chip reads and writes.
    other_bytes: those of kernels that are neither products nor attention, if they are known.
  """
  by_network = {"ici": 0.0, "dcn": 0.0}
  for one in collectives:
    by_network[one.network] += collective_seconds(one, topology)
  chips, peak_flops = topology.chips, topology.chip.peak_flops
  compute = executed_flops / chips / peak_flops
  others = None if other_bytes is None else other_bytes / topology.chip.hbm_bandwidth
  factor = topology.chip.step_factor if isinstance(topology.chip, GpuChip) else None
  expected = None
  if factor is not None and others is not None:
    # What is sent overlaps with what is computed; how far was not measured.
    expected = max(factor * (compute + others), by_network["ici"], by_network["dcn"])
  return Roofline(
    compute=compute,
    hbm=hbm_bytes / topology.chip.hbm_bandwidth,
    ici=by_network["ici"],
    dcn=by_network["dcn"],
    model_compute=model_flops / chips / peak_flops,
    others=others,
    expected=expected,
  )


def collective_seconds(collective: Collective, topology: Topology) -> float:
  """Returns for how many seconds of a step a collective keeps its network busy.

  Along an axis of the torus that closes to a ring, data travels in both directions; along any other
  axis the devices at its ends have only one link. A group along several axes uses the links of all
  of them. Each block of an all-to-all travels a quarter of the ring on average.

  The switches of a node give every GPU its full bandwidth to all others. A ring of GPUs through
  several nodes enters each of them by all the network cards of its GPUs; what an all-to-all or a
  permutation sends leaves by the sender's own card.
  """
  if collective.network == "dcn":
    exchanged = collective.kind in ("all-to-all", "collective-permute")
    cards = 1 if exchanged else collective.per_node
    return collective.wire_bytes / (cards * topology.chip.dcn_bandwidth)
  if isinstance(topology.chip, GpuChip):
    return collective.wire_bytes / topology.chip.link_bandwidth
  bandwidth = sum(
    topology.chip.link_bandwidth * (2 if whole and topology.wraps(axis) else 1)
    for axis, whole in _whole_axes(collective, topology)
  )
  hops = collective.group / 4 if collective.kind == "all-to-all" else 1.0
  return collective.wire_bytes * max(1.0, hops) / max(bandwidth, topology.chip.link_bandwidth)


def _whole_axes(collective: Collective, topology: Topology) -> list[tuple[int, bool]]:
  """Returns (axis, whether a group fills it) for the torus axes along which the groups are."""
  axes = [axis for axis in collective.torus_axes if axis < len(topology.shape)]
  filled = math.prod(topology.shape[axis] for axis in axes) == collective.group
  return [(axis, filled) for axis in axes]
