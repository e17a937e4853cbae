"""The collectives of a compiled program: their kinds, bytes, groups of devices and networks."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from t5x_style.planning import hlo

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
# libtpu hands over to the host what leaves a slice, and names the collective it belongs to.
_ACROSS_SLICES = {
  "ALL_GATHER": "all-gather",
  "REDUCE_SCATTER": "reduce-scatter",
  "ALL_REDUCE": "all-reduce",
  "ALL_TO_ALL": "all-to-all",
}


class Collective(NamedTuple):
  """One collective of the program.

  Attributes:
    kind: one of KINDS.
    network: "ici" inside a TPU slice or, by NVLink, inside a node of GPUs; "dcn" between those, and
      between hosts that have no faster network.
    shapes: of the arrays on a device after they are gathered, or before they are scattered.
    bytes: of these arrays, each time it runs.
    group: number of devices (dcn: slices) that take part together.
    torus_axes: axes of the slice along which the devices of a group differ.
    times: how often it runs in a step.
    in_loop: whether it is in a loop's body, as those of scanned layers are.
    where: the traced operation it comes from; "" if the compiler does not report it.
    per_node: how many GPUs of a node are in a group that spans nodes: they share its network cards.
  """

  kind: str
  network: str
  shapes: tuple[hlo.Shape, ...]
  bytes: int
  group: int
  torus_axes: tuple[int, ...]
  times: int
  in_loop: bool
  where: str
  per_node: int = 1

  @property
  def wire_bytes(self) -> float:
    """Bytes a device sends in a step by ring algorithms: (g - 1) / g of the array, or twice that.

    g is the size of a group; twice, for an all-reduce.
    """
    if self.kind == "collective-permute":
      return float(self.bytes * self.times)
    share = (self.group - 1) / self.group
    return self.times * self.bytes * share * (2 if self.kind == "all-reduce" else 1)


def read(program: hlo.Program, devices: Sequence[jax.Device]) -> list[Collective]:
  """Returns the collectives of a step.

  Args:
    devices: all devices of the mesh, in its order.

  Raises:
    ValueError: the program spells groups of devices in an unknown way.
  """
  slices = {_slice(d) for d in devices}
  # A TPU program is compiled for one slice: its ids count the devices of that slice.
  own = [d for d in devices if _slice(d) == min(slices)]
  own = own if devices[0].platform == "tpu" else list(devices)
  found = []
  for name, times in hlo.scheduled(program).items():
    for instruction, kind, operands in _once_each(program, name):
      where = instruction.op_name
      if instruction.opcode == "send":
        shapes, group, network, per_node = operands[:1], len(slices), "dcn", 1
        axes: tuple[int, ...] = ()
      else:
        members = _first_group(instruction, own)
        shapes, group, axes = operands, len(members), _torus_axes(members)
        network, per_node = _network(members)
      if group == 1:
        continue
      if kind == "all-gather":
        shapes = tuple(_gathered(shape, instruction, group) for shape in shapes)
      size, in_loop = hlo.bytes_of(shapes), name != program.entry
      one = Collective(kind, network, shapes, size, group, axes, times, in_loop, where, per_node)
      found.append(one)
  return found


def summary(collectives: Iterable[Collective]) -> list[dict[str, Any]]:
  """Returns sums by kind and network, the largest first; bytes are of one device in a step."""
  sums: dict[tuple[str, str], dict[str, Any]] = {}
  for one in collectives:
    row = sums.setdefault(
      (one.kind, one.network),
      {"kind": one.kind, "network": one.network, "count": 0, "bytes": 0, "wire_bytes": 0},
    )
    row["count"] += one.times
    row["bytes"] += one.times * one.bytes
    row["wire_bytes"] += round(one.wire_bytes)
  return sorted(sums.values(), key=lambda row: -row["wire_bytes"])


def _slice(device: Any) -> int:
  return getattr(device, "slice_index", 0) or 0


def _network(members: Sequence[Any]) -> tuple[str, int]:
  """Returns the network of a group's devices, and how many of them its first node has."""
  if members[0].platform == "tpu":
    return "ici", 1
  node = (_slice(members[0]), members[0].process_index)
  near = sum((_slice(d), d.process_index) == node for d in members)
  fast = members[0].platform == "gpu" and near == len(members)
  return ("ici", 1) if fast else ("dcn", near if members[0].platform == "gpu" else 1)


def _once_each(
  program: hlo.Program, computation: str
) -> Iterator[tuple[hlo.Instruction, str, tuple[hlo.Shape, ...]]]:
  """Yields (instruction, kind, shapes of its operands) for each collective of a computation.

  libtpu splits an asynchronous collective into pieces, which it fuses with nearby matrix products,
  also with those inside loops. The pieces have the same chain_id; only the first one is yielded.
  """
  own = program.computations[computation]
  for instruction in own.values():
    inside = [(computation, instruction)]
    if instruction.opcode in ("fusion", "async-start"):
      inside = list(hlo.within(program, instruction))
    for place, inner in inside:
      kind = _kind(inner, place)
      siblings = program.computations[place]
      piece = place != computation and "chain_id=" in inner.rest
      if kind is None or (piece and not _starts(siblings)):
        continue
      operands = tuple(
        shape for name in inner.operands if name in siblings for shape in siblings[name].shapes
      )
      yield inner, kind, operands


def _starts(fusion: dict[str, hlo.Instruction]) -> bool:
  """Returns whether a fusion contains the first piece of an asynchronous collective."""
  return any('custom_call_target="AsyncCollectiveStart"' in x.rest for x in fusion.values())


def _kind(instruction: hlo.Instruction, computation: str) -> str | None:
  if instruction.opcode == "send":
    handler = instruction.attribute(r'_xla_megascale_transfer_type="(\w+)"')
    return None if handler is None else _ACROSS_SLICES.get(handler, "collective-permute")
  kind = instruction.opcode.removesuffix("-start")
  if kind == "all-reduce" and computation.startswith("all-reduce-scatter"):
    return "reduce-scatter"  # XLA for TPUs writes one as such a fusion.
  return kind if kind in KINDS else None


def _gathered(shape: hlo.Shape, instruction: hlo.Instruction, group: int) -> hlo.Shape:
  dtype, sizes = shape
  dimension = int(instruction.attribute(r"dimensions=\{(\d+)") or 0)
  return dtype, tuple(n * group if i == dimension else n for i, n in enumerate(sizes))


def _first_group(instruction: hlo.Instruction, devices: Sequence[Any]) -> list[Any]:
  """Returns the devices of the first group that take part together."""
  rest = instruction.rest
  if pairs := re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", rest):
    return [devices[int(i)] for i in pairs.groups()]
  if explicit := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
    return [devices[i] for i in _numbers(explicit[1])]
  for ids in (_first_of_iota(rest), _first_of_mesh(rest)):
    if ids is not None:
      return [devices[i] for i in ids]
  if "replica_groups={}" in rest or "replica_groups=" not in rest:
    return list(devices)
  raise ValueError(f"The groups of a collective are spelt in a new way: {rest[:200]}")


def _first_of_iota(rest: str) -> list[int] | None:
  """Returns the first group of replica_groups=[2,2]<=[4] or [2,2]<=[2,2]T(1,0), else None.

  The numbers 0, 1, ... are arranged in the second shape, transposed by T, and reshaped to the
  first, whose rows are the groups.
  """
  found = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest)
  if not found:
    return None
  groups, source, order = (_numbers(text) for text in found.groups())
  ids = np.arange(math.prod(source)).reshape(source)
  return (ids.transpose(order) if order else ids).reshape(groups)[0].ravel().tolist()


def _first_of_mesh(rest: str) -> list[int] | None:
  """Returns the first group of replica_groups=mesh['a'=2,'b'=2] {'b'}, else None.

  Groups are along the axes in braces. 'b':(2)4 is a part of size 4 of the axis b, where 2 is the
  product of the sizes of the parts before it. device_ids gives the mesh's devices in another order.
  """
  device_ids = r"(?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?"
  found = re.search(rf"replica_groups=mesh\[([^\]]*)\]{device_ids} \{{([^}}]*)\}}", rest)
  if not found:
    return None
  mesh, arranged, order, axes = found.groups()
  sizes = {name: int(size) for name, size in re.findall(r"'([^']*)'=(\d+)", mesh)}
  ids = np.arange(math.prod(sizes.values()))
  if arranged:
    ids = ids.reshape(_numbers(arranged))
    ids = ids.transpose(_numbers(order)) if order else ids
  ids = ids.reshape(*sizes.values())
  index: list[list[int]] = [[0]] * len(sizes)
  for name, before, size in re.findall(r"'([^']*)'(?::\((\d+)\)(\d+))?", axes):
    step = sizes[name] // (int(before) * int(size)) if before else 1
    along = range(0, step * int(size), step) if before else range(sizes[name])
    index[list(sizes).index(name)] = list(along)
  return ids[np.ix_(*index)].ravel().tolist()


def _numbers(text: str | None) -> list[int]:
  return [int(n) for n in text.split(",")] if text else []


def _torus_axes(devices: Sequence[Any]) -> tuple[int, ...]:
  """Returns the axes of the slice along which these devices differ."""
  if not hasattr(devices[0], "coords"):
    return ()
  coordinates = np.array([d.coords for d in devices])
  return tuple(int(i) for i in np.flatnonzero((coordinates != coordinates[0]).any(0)))
