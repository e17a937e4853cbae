"""What a compiled program sends between devices: by kind, with bytes, over which network."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from t5x_style.planning import hlo

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
# libtpu hands what leaves a slice to the host, and says what it is for.
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
    network: "ici" inside a slice, "dcn" between slices or hosts that have no faster one.
    shapes: of the whole arrays: gathered, or before they are scattered, as a device holds them.
    bytes: of these, each time it runs.
    group: devices (dcn: slices) that take part together.
    torus_axes: of the slice, along which the group's devices lie.
    times: that it runs in a step.
    in_loop: whether it stands in a loop's body, as those of scanned layers do.
    where: the traced operation it comes from; "" where the compiler does not say.
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

  @property
  def wire_bytes(self) -> float:
    """What a device sends in a step: the ring algorithms' (g - 1) / g of the whole, or twice it."""
    if self.kind == "collective-permute":
      return float(self.bytes * self.times)
    share = (self.group - 1) / self.group
    return self.times * self.bytes * share * (2 if self.kind == "all-reduce" else 1)


def read(program: hlo.Program, devices: Sequence[jax.Device]) -> list[Collective]:
  """The collectives of a step.

  Args:
    devices: of the mesh, in its order.
  """
  slices = {getattr(d, "slice_index", 0) or 0 for d in devices}
  first = min(slices)
  # A TPU program is compiled for one slice: ids count that one's devices.
  own = [d for d in devices if (getattr(d, "slice_index", 0) or 0) == first]
  own = own if devices[0].platform == "tpu" else list(devices)
  found = []
  for name, times in hlo.scheduled(program).items():
    for instruction, kind, operands in _once_each(program, name):
      where = instruction.op_name
      if instruction.opcode == "send":
        shapes, group, network = operands[:1], len(slices), "dcn"
        axes: tuple[int, ...] = ()
      else:
        members = _first_group(instruction, own)
        shapes, group, axes = operands, len(members), _torus_axes(members)
        network = "ici" if devices[0].platform == "tpu" else "dcn"
      if group == 1:
        continue
      if kind == "all-gather":
        shapes = tuple(_gathered(shape, instruction, group) for shape in shapes)
      found.append(
        Collective(
          kind,
          network,
          shapes,
          hlo.bytes_of(shapes),
          group,
          axes,
          times,
          name != program.entry,
          where,
        )
      )
  return found


def summary(collectives: Iterable[Collective]) -> list[dict[str, Any]]:
  """Sums by kind and network, the largest first; bytes are those of a device in a step."""
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


def _once_each(
  program: hlo.Program, computation: str
) -> Iterator[tuple[hlo.Instruction, str, tuple[hlo.Shape, ...]]]:
  """(instruction, kind, shapes of its operands) of what a run of a computation sends.

  libtpu cuts an asynchronous collective into pieces that it fuses with the products around it, also
  with those inside of loops: the pieces carry one chain_id, and the first of them starts it.
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
  """Whether a fusion holds the first piece of an asynchronous collective."""
  return any('custom_call_target="AsyncCollectiveStart"' in x.rest for x in fusion.values())


def _kind(instruction: hlo.Instruction, computation: str) -> str | None:
  if instruction.opcode == "send":
    handler = instruction.attribute(r'_xla_megascale_transfer_type="(\w+)"')
    return None if handler is None else _ACROSS_SLICES.get(handler, "collective-permute")
  kind = instruction.opcode.removesuffix("-start")
  if kind == "all-reduce" and computation.startswith("all-reduce-scatter"):
    return "reduce-scatter"  # The fusion that XLA for TPUs makes of one.
  return kind if kind in KINDS else None


def _gathered(shape: hlo.Shape, instruction: hlo.Instruction, group: int) -> hlo.Shape:
  dtype, sizes = shape
  dimension = int(instruction.attribute(r"dimensions=\{(\d+)") or 0)
  return dtype, tuple(n * group if i == dimension else n for i, n in enumerate(sizes))


def _first_group(instruction: hlo.Instruction, devices: Sequence[Any]) -> list[Any]:
  """The devices of the first group that take part together.

  HLO spells groups {{0,1},{2,3}}; [2,2]<=[4] or [2,2]<=[2,2]T(1,0), as numbers counted up, laid out
  and cut; or mesh['a'=2,'b'=2] {'b'}, along an axis of a mesh or ('b':(1)2) a part of one.
  """
  rest = instruction.rest
  if pairs := re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", rest):
    return [devices[int(i)] for i in pairs.groups()]
  if iota := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest):
    shape, source, order = ([int(n) for n in x.split(",")] if x else [] for x in iota.groups())
    ids = np.arange(math.prod(source)).reshape(source)
    first = (ids.transpose(order) if order else ids).reshape(shape)[0]
    return [devices[int(i)] for i in np.atleast_1d(first)]
  laid_out = r"(?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?"
  if mesh := re.search(rf"replica_groups=mesh\[([^\]]*)\]{laid_out} \{{([^}}]*)\}}", rest):
    sizes = {name: int(size) for name, size in re.findall(r"'([^']*)'=(\d+)", mesh[1])}
    ids, chosen = np.arange(math.prod(sizes.values())), []
    if mesh[2]:
      ids = ids.reshape([int(n) for n in mesh[2].split(",")])
      ids = ids.transpose([int(n) for n in mesh[3].split(",")]) if mesh[3] else ids
    ids = ids.reshape(*sizes.values())
    for name, before, size in re.findall(r"'([^']*)'(?::\((\d+)\)(\d+))?", mesh[4]):
      step = sizes[name] // (int(before) * int(size)) if before else 1
      along = range(0, step * int(size), step) if before else range(sizes[name])
      chosen.append((list(sizes).index(name), along))
    index: list[Any] = [[0]] * len(sizes)
    for axis, along in chosen:
      index[axis] = list(along)
    return [devices[int(i)] for i in ids[np.ix_(*index)].flat]
  if explicit := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
    return [devices[int(i)] for i in explicit[1].split(",")]
  if "replica_groups={}" in rest or "replica_groups=" not in rest:
    return list(devices)
  raise ValueError(f"The groups of a collective are spelt in a new way: {rest[:200]}")


def _torus_axes(devices: Sequence[Any]) -> tuple[int, ...]:
  """The axes of the slice along which these devices differ."""
  if not hasattr(devices[0], "coords"):
    return ()
  coordinates = np.array([d.coords for d in devices])
  return tuple(int(i) for i in np.flatnonzero((coordinates != coordinates[0]).any(0)))
