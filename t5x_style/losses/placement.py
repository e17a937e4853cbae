"""On which mesh axes the tokens and the vocabulary lie, by the logical axis rules in force."""

import math
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
  """Mesh axes of the dimensions of hidden [..., D] and kernel [D, V]; () is not split."""

  leading: tuple[Axes, ...]  # of the dimensions before D
  vocab: Axes = ()
  embed: Axes = ()  # of the kernel's D
  sizes: tuple[tuple[str, int], ...] = ()

  @property
  def tokens(self) -> Axes:
    return tuple(axis for axes in self.leading for axis in axes)

  @property
  def scattered(self) -> Axes:
    """Axes over which the kernel's gradient is summed and split at once."""
    return self.embed if set(self.embed) <= set(self.tokens) else ()

  def size(self, axes: Axes) -> int:
    """The number of devices along these axes."""
    return math.prod(dict(self.sizes)[axis] for axis in axes)

  def local(self, leading: tuple[int, ...]) -> tuple[int, ...]:
    """The leading dimensions on one device, rounded up."""
    return tuple(-(-n // self.size(axes)) for n, axes in zip(leading, self.leading, strict=True))

  def token_spec(self, *rest: None) -> PartitionSpec:
    return PartitionSpec(*(axes or None for axes in self.leading), *rest)


def current_placement(leading: tuple[int, ...], emb_dim: int, vocab_size: int) -> Placement | None:
  """Where the mesh in force (jax.set_mesh) puts [*leading, D] and [D, V]; None on one device."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1 or any(t != AxisType.Auto for t in mesh.axis_types):
    return None
  sizes = {name: size for name, size in mesh.shape.items() if size > 1}
  rules = nn.get_logical_axis_rules() or _DEFAULT_RULES
  rules = [(name, tuple(a for a in _axes(axes) if a in sizes)) for name, axes in rules]

  def axes_of(names):
    return [_axes(x) for x in nn.logical_to_mesh_axes(names, rules)]

  names = (("batch", "length") + (None,) * len(leading))[: len(leading)]
  tokens = axes_of(names)
  embed, vocab = axes_of(("embed", "vocab"))
  taken = {axis for axes in tokens for axis in axes}
  count = lambda axes: math.prod(sizes[axis] for axis in axes)
  if taken & set(vocab) or vocab_size % count(vocab):
    vocab = ()
  if emb_dim % count(embed):
    embed = ()
  return Placement(tuple(tokens), vocab, embed, tuple(sizes.items()))


def _axes(axes) -> Axes:
  return (axes,) if isinstance(axes, str) else tuple(axes or ())
