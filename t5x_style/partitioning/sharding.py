"""How arrays are split over the mesh: rules, plain data, map logical axis names to mesh axes."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from t5x_style.errors import UserError

Rules = Sequence[tuple[str, str | tuple[str, ...] | None]]

# The first rule whose mesh axes are still free in an array wins; without one an axis stays whole.
# The batch takes fsdp before an activation's embed can: parameters are gathered, not activations.
DEFAULT_RULES: Rules = (
  ("batch", ("data", "fsdp", "expert")),
  ("length", "sequence"),
  ("experts", "expert"),
  ("vocab", "tensor"),
  ("mlp", "tensor"),
  ("heads", "tensor"),
  ("kv_heads", "tensor"),
  ("embed", "fsdp"),
  ("table_batch", ("data", "expert")),  # Rows looked up in a table whose columns take fsdp.
)

# Axes that stay whole unless one of the user's rules names them.
_REPLICATED = (
  *("layers", "kv", "relative", "positions", "types", "embed_out", "classes", "router"),
)

# Grouped-query models often have fewer key heads than tensor-parallel devices: they are copied.
_MAY_REPLICATE = ("kv_heads",)


@dataclasses.dataclass(frozen=True)
class _Share:
  """Share `index` of `count` of a batch's rows, and the blocks of rows on a process' devices."""

  index: int
  count: int
  blocks: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Partitioner:
  """A mesh and the rules that place arrays on it.

  Attributes:
    rules: pairs of a logical axis and a mesh axis, a tuple of these, or None, that come before
      DEFAULT_RULES. Only what differs from those is needed, e.g. (("vocab", None),).

  Raises:
    UserError: a rule names an axis that no model or no mesh has.
  """

  mesh: Mesh
  rules: Rules = ()

  def __post_init__(self):
    known = [*dict(DEFAULT_RULES), *_REPLICATED]
    for rule in self.rules or ():
      if not isinstance(rule, (tuple, list)) or len(rule) != 2:
        raise UserError(
          f"LOGICAL_AXIS_RULES holds {rule!r}; a rule is a pair such as ('vocab', 'tensor')."
        )
      if rule[0] not in known:
        raise UserError(
          f"LOGICAL_AXIS_RULES names the axis {rule[0]!r}; the axes of models are "
          f"{', '.join(known)}."
        )
      for axis in as_tuple(rule[1]):
        if axis not in self.mesh.shape:
          raise UserError(
            f"The rule {rule[0]!r} -> {rule[1]!r} of LOGICAL_AXIS_RULES names the mesh axis "
            f"{axis!r}; the mesh has {', '.join(self.mesh.shape)}."
          )

  def active_rules(self) -> Rules:
    """Returns all rules, the user's first, without mesh axes of size one."""
    return without_unit_axes((*(self.rules or ()), *DEFAULT_RULES), self.mesh.shape)

  @contextlib.contextmanager
  def context(self) -> Iterator[None]:
    """A context in which the logical constraints inside the models take effect."""
    with jax.set_mesh(self.mesh), nn.logical_axis_rules(self.active_rules()):
      yield

  def sharding(self, names: Sequence[str | None], shape: Sequence[int] | None = None):
    """Returns the sharding of an array with these logical axes.

    Raises:
      UserError: a dimension of `shape` does not divide by its mesh axes.
    """
    spec = list(nn.logical_to_mesh_axes(names, self.active_rules()))
    for i, size in enumerate(shape or ()):
      axes = spec[i]
      parts = self._size(axes)
      if size % parts:
        if names[i] not in _MAY_REPLICATE:
          raise UserError(
            f"The axis {names[i]!r} of a {tuple(shape or ())} array does not divide by the {parts} "
            f"devices along {axes}; set MESH_SHAPE to a divisor of {size}, or change the size."
          )
        spec[i] = None
    return NamedSharding(self.mesh, PartitionSpec(*spec))

  def params(self, boxed: Any) -> Any:
    """Returns the shardings of boxed (nn.LogicallyPartitioned) abstract parameters."""

    def place(box):
      if isinstance(box, nn.Partitioned):
        return self.sharding(box.names, box.value.shape)
      return NamedSharding(self.mesh, PartitionSpec())

    return jax.tree.map(place, boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))

  def like_params(self, tree: Any, params: Any, shardings: Any) -> Any:
    """Returns the shardings of a tree with parameter-like arrays, such as an optimizer's state.

    A leaf whose path ends in a parameter's path is split as the parameter is; a leaf without some
    of its dimensions (Adafactor's factored moments) drops them; any other leaf is replicated.
    """
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    known = {
      tuple(map(str, path)): (leaf.shape, sharding)
      for (path, leaf), sharding in zip(flat, jax.tree.leaves(shardings), strict=True)
    }

    def place(path, leaf):
      path = tuple(map(str, path))
      for start in range(len(path)):
        if path[start:] in known:
          shape, sharding = known[path[start:]]
          return NamedSharding(self.mesh, _project(sharding.spec, shape, leaf.shape))
      return NamedSharding(self.mesh, PartitionSpec())

    return jax.tree_util.tree_map_with_path(place, tree)

  def batch(self, ndim: int = 2) -> NamedSharding:
    """Returns the sharding of a feature [B, L, ...]: rows over the batch axes, then the length."""
    names = ("batch", "length", *[None] * (ndim - 2))[:ndim]
    return self.sharding(names)

  def replicated(self) -> NamedSharding:
    return NamedSharding(self.mesh, PartitionSpec())

  def check_batch(self, batch_size: int, microbatches: int) -> None:
    """Raises UserError if the rows do not divide over the mesh and the microbatches."""
    axes = self.batch().spec[0]
    parts = self._size(axes)
    if batch_size % (parts * microbatches):
      step = parts * microbatches
      near = max(step, round(batch_size / step) * step)
      raise UserError(
        f"BATCH_SIZE = {batch_size} does not divide by {parts} data-parallel device"
        f"{'s' * (parts != 1)} ({axes}) x NUM_MICROBATCHES = {microbatches}; "
        f"set BATCH_SIZE = {near}, or change MESH_SHAPE."
      )

  def check_lengths(self, features: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Raises UserError if the tokens of a row do not divide over the mesh."""
    parts = self._size(self.batch().spec[1])
    for name, x in features.items():
      if x.ndim > 1 and x.shape[1] % parts:
        raise UserError(
          f"The feature {name} has {x.shape[1]} tokens, which do not divide over sequence = "
          f"{parts}; set TASK_FEATURE_LENGTHS or MESH_SHAPE."
        )

  def data_share(self) -> tuple[int, int]:
    """Returns (index, count): which share of every batch's rows this process has to read.

    Processes that hold the same rows, as with tensor parallelism across hosts, read the same share.
    """
    return self._share.index, self._share.count

  def put(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Makes global arrays of this process' rows of a batch, without waiting for the transfer."""
    return {name: self._put(value) for name, value in batch.items()}

  def _put(self, value: np.ndarray) -> jax.Array:
    count, blocks = self._share.count, self._share.blocks
    size = len(value) // len(blocks)  # rows of a block

    def rows(index):
      start = index[0].start or 0
      first = blocks.index(start // size) * size
      return value[first : first + (index[0].stop or count * len(value)) - start, *index[1:]]

    shape = (count * len(value), *value.shape[1:])
    return jax.make_array_from_callback(shape, self.batch(value.ndim), rows)

  @functools.cached_property
  def _share(self) -> _Share:
    """The share of this process.

    A mesh that follows the torus of a TPU slice may give a process rows that are not neighbours. It
    still reads one share, and spreads it over its blocks in order: the order of the rows in a batch
    does not matter.
    """
    spec = PartitionSpec(self.batch().spec[0])
    count = self._size(spec[0])
    held: dict[int, set[int]] = {}
    for device, index in NamedSharding(self.mesh, spec).devices_indices_map((count,)).items():
      process = device.process_index  # type: ignore[attr-defined]
      held.setdefault(process, set()).add(index[0].start or 0)
    shares = sorted({tuple(sorted(blocks)) for blocks in held.values()})
    mine = tuple(sorted(held.get(jax.process_index(), ())))
    one_each = sum(map(len, shares)) == count and len({len(share) for share in shares}) == 1
    if not mine or not one_each:  # Devices that are only compiled for, or shares that overlap.
      return _Share(0, 1, tuple(range(count)))
    return _Share(shares.index(mine), len(shares), mine)

  def _size(self, axes) -> int:
    return math.prod(self.mesh.shape[axis] for axis in as_tuple(axes))


def total_bytes(arrays: Any) -> int:
  """Returns the bytes of a tree of arrays, which may be abstract, without copies on devices."""
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(arrays))


def device_bytes(arrays: Any, shardings: Any = None) -> int:
  """Returns the bytes that one device holds of a tree of arrays, which may be abstract.

  Args:
    shardings: the sharding of each array; None takes those of the arrays.
  """
  leaves = jax.tree.leaves(arrays)
  split = [x.sharding for x in leaves] if shardings is None else jax.tree.leaves(shardings)
  return sum(
    math.prod(sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x, sharding in zip(leaves, split, strict=True)
  )


def without_unit_axes(rules: Rules, sizes: Mapping[str, int]) -> Rules:
  """Returns rules without mesh axes of size one, so that None means "not split".

  Args:
    sizes: of the mesh axes; those that are missing have size one.
  """
  split = {name for name, size in sizes.items() if size > 1}
  return [(name, tuple(x for x in as_tuple(axes) if x in split) or None) for name, axes in rules]


def as_tuple(axes: str | Sequence[str] | None) -> tuple[str, ...]:
  """Returns the mesh axes of a rule, or of a dimension in a PartitionSpec, as a tuple."""
  return (axes,) if isinstance(axes, str) else tuple(axes or ())


def _project(spec, shape, leaf_shape):
  """Returns the spec of a leaf that kept, in order, some of the dimensions of `shape`."""
  spec = tuple(spec) + (None,) * (len(shape) - len(spec))
  kept, i = [], 0
  for size in leaf_shape:
    while i < len(shape) and shape[i] != size:
      i += 1
    if i == len(shape):
      return PartitionSpec()  # Not a part of the parameter, but a placeholder of another shape.
    kept.append(spec[i])
    i += 1
  return PartitionSpec(*kept)
