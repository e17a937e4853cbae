"""On which mesh axes the tokens and the vocabulary lie, by the logical axis rules in force."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
from jax.sharding import AxisType, PartitionSpec

Axes = tuple[str, ...]

# In force where no logical axis rules are, for the mesh axes that exist.
_DEFAULT_RULES = (
  ("batch", ("data", "fsdp")),
  ("length", "sequence"),
  ("vocab", "tensor"),
  ("embed", "fsdp"),
)


class Placement(NamedTuple):
  """Mesh axes over which the dimensions of hidden [..., D] and kernel [D, V] are split."""

  leading: tuple[Axes, ...]  # of each dimension before hidden's D
  vocab: Axes
  embed: Axes  # of the kernel's D
  sizes: tuple[tuple[str, int], ...]  # devices along each axis

  @property
  def tokens(self) -> Axes:
    """All axes over which tokens are split."""
    return tuple(axis for axes in self.leading for axis in axes)

  def size(self, axes: Axes) -> int:
    """The number of devices along these axes."""
    return math.prod(dict(self.sizes)[axis] for axis in axes)

  def local(self, leading: Sequence[int]) -> tuple[int, ...]:
    """The dimensions before D on one device, rounded up."""
    return tuple(-(-n // self.size(axes)) for n, axes in zip(leading, self.leading, strict=True))

  def token_spec(self, *rest: None) -> PartitionSpec:
    return PartitionSpec(*(axes or None for axes in self.leading), *rest)


def current_placement(hidden_shape: Sequence[int], vocab_size: int) -> Placement | None:
  """Where the mesh in force (jax.set_mesh) puts hidden [..., D] and kernel [D, V].

  None without a mesh, on one device, and where the mesh's axes are not Auto (inside a shard_map,
  say): then arrays are taken as they are.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1 or any(t != AxisType.Auto for t in mesh.axis_types):
    return None
  sizes = {name: size for name, size in mesh.shape.items() if size > 1}
  rules = [
    (name, tuple(axis for axis in _axes(axes) if axis in sizes))
    for name, axes in nn.get_logical_axis_rules() or _DEFAULT_RULES
  ]
  *leading, emb_dim = hidden_shape
  names = ("batch", "length", *[None] * len(leading))[: len(leading)]
  tokens = tuple(_axes(axes) for axes in nn.logical_to_mesh_axes(names, rules))
  embed, vocab = (_axes(axes) for axes in nn.logical_to_mesh_axes(("embed", "vocab"), rules))
  # A device's tokens meet the whole vocabulary, or the same tokens lie beside every part of it.
  vocab = tuple(axis for axis in vocab if not any(axis in axes for axes in tokens))
  if vocab_size % math.prod(sizes[axis] for axis in vocab):
    vocab = ()
  if emb_dim % math.prod(sizes[axis] for axis in embed):
    embed = ()
  return Placement(tokens, vocab, embed, tuple(sizes.items()))


def _axes(axes) -> Axes:
  return (axes,) if isinstance(axes, str) else tuple(axes or ())
