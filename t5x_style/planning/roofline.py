"""The least time a step can take: each part of the hardware at its published rate.

Every part is taken to work beside the others, so that the slowest one sets the time ("How to Scale
Your Model", Austin et al. 2025, parts 1 and 3). Real steps take longer: nothing here has latency,
and no matrix product reaches the peak.
"""

import dataclasses
import math
from collections.abc import Iterable

from t5x_style.planning.collectives import Collective
from t5x_style.planning.topologies import Topology


@dataclasses.dataclass(frozen=True)
class Roofline:
  """Seconds that each part of a chip is busy in a step.

  Attributes:
    compute: of the matrix products at the peak, those that are made again (remat) included.
    hbm: of the memory, reading and writing.
    ici: of the links inside a slice.
    dcn: of the network between slices.
    model_compute: compute, with nothing made again: what MFU counts.
  """

  compute: float
  hbm: float
  ici: float
  dcn: float
  model_compute: float

  @property
  def seconds(self) -> float:
    """Of a step, at least."""
    return max(self.compute, self.hbm, self.ici, self.dcn)

  @property
  def bound_by(self) -> str:
    parts = {name: getattr(self, name) for name in ("compute", "hbm", "ici", "dcn")}
    return max(parts, key=lambda name: parts[name])

  @property
  def mfu_bound(self) -> float:
    """Model FLOPs over what the chips could do in that time, at most."""
    return self.model_compute / self.seconds


def roofline(
  topology: Topology,
  collectives: Iterable[Collective],
  *,
  model_flops: float,
  executed_flops: float,
  hbm_bytes: float,
) -> Roofline:
  """The roofline of a step.

  Args:
    model_flops, executed_flops: of all chips together, without and with what remat makes again.
    hbm_bytes: that a chip reads and writes.
  """
  by_network = {"ici": 0.0, "dcn": 0.0}
  for one in collectives:
    by_network[one.network] += collective_seconds(one, topology)
  chips, peak_flops = topology.chips, topology.chip.peak_flops
  return Roofline(
    compute=executed_flops / chips / peak_flops,
    hbm=hbm_bytes / topology.chip.hbm_bandwidth,
    ici=by_network["ici"],
    dcn=by_network["dcn"],
    model_compute=model_flops / chips / peak_flops,
  )


def collective_seconds(collective: Collective, topology: Topology) -> float:
  """How long a step's runs of a collective keep its network busy.

  Along an axis of the torus that closes to a ring data travels both ways, along one that does not
  the devices at its ends have one link. A group along several axes uses all of their links. Each
  block of an all-to-all travels a quarter of the ring on average.
  """
  if collective.network == "dcn":
    return collective.wire_bytes / topology.chip.dcn_bandwidth
  bandwidth = sum(
    topology.chip.link_bandwidth * (2 if whole and topology.wraps(axis) else 1)
    for axis, whole in _whole_axes(collective, topology)
  )
  hops = collective.group / 4 if collective.kind == "all-to-all" else 1.0
  return collective.wire_bytes * max(1.0, hops) / max(bandwidth, topology.chip.link_bandwidth)


def _whole_axes(collective: Collective, topology: Topology):
  """(axis, whether a group can fill it) of the torus axes a collective's groups lie along."""
  axes = [axis for axis in collective.torus_axes if axis < len(topology.shape)]
  filled = math.prod(topology.shape[axis] for axis in axes) == collective.group
  return [(axis, filled) for axis in axes]
