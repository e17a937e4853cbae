"""Compares the layouts of a run on a topology by formula: which fit, and which is the fastest."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.sharding import AbstractMesh, AxisType

from t5x_style.models import Transformer
from t5x_style.models.config import Remat
from t5x_style.models.kernel_choices import attention_choices
from t5x_style.models.parameter_shapes import boxed_parameters
from t5x_style.partitioning import MESH_AXES, Partitioner, device_bytes, make_mesh
from t5x_style.planning import collectives, compilation, estimates, expert_estimates, layouts
from t5x_style.planning.layouts import Layout
from t5x_style.planning.roofline import Roofline, roofline
from t5x_style.planning.topologies import Topology
from t5x_style.training import flops, setup, train_config
from t5x_style.training.dataset import Dataset, microbatch_shapes, tokens_per_row

_REMAT: tuple[Remat, ...] = ("none", "dots", "full")
_MICROBATCHES = (1, 2, 4, 8, 16, 32, 64)
_MOST_TENSOR, _MOST_SEQUENCE = 16, 8
MARGIN = 0.9  # share of the memory that the formula may fill


class Estimate(NamedTuple):
  """What a layout needs by formula; bytes are those of one chip."""

  layout: Layout
  state_bytes: float
  temporary_bytes: float
  roofline: Roofline

  @property
  def bytes(self) -> float:
    return self.state_bytes + self.temporary_bytes


class Planner:
  """The formulas for one run on one topology. A layout takes well under a millisecond."""

  def __init__(
    self,
    config: train_config.TrainConfig,
    dataset: Dataset,
    topology: Topology,
    fused_attention: bool = False,
  ):
    """Traces the model once.

    Args:
      fused_attention: whether every attention is computed by a kernel that keeps no weights.
    """
    self.config, self.dataset, self.topology = config, dataset, topology
    self._fused_attention = fused_attention
    self._lengths = tokens_per_row(dataset.feature_shapes)
    self._boxed = boxed_parameters(config.model)
    self._params = nn.meta.unbox(self._boxed)
    self._opt_state = jax.eval_shape(setup.make_optimizer(config).init, self._params)
    self._parameters = _numbers_of_parameters(self._params)
    self._state = functools.cache(self._state_bytes)

  def layouts(self) -> Iterator[Layout]:
    """Yields every layout that divides the batch: all meshes, microbatches and remat policies."""
    one_device = dict.fromkeys(MESH_AXES, 1)
    base = layouts.layout_of_config(self.config, self.dataset, one_device, self._fused_attention)
    for mesh in self._meshes():
      parts = self._batch_parts(mesh)
      for microbatches, remat in itertools.product(_MICROBATCHES, _REMAT):
        if self.config.batch_size % (parts * microbatches) == 0:
          yield dataclasses.replace(base, mesh=mesh, microbatches=microbatches, remat=remat)

  def fused_attention(self, layout: Layout, devices: Sequence[jax.Device]) -> bool:
    """Returns whether kernels that keep no attention weights compute all of the attention.

    This depends on how the mesh splits heads and lengths.
    """
    batch = microbatch_shapes(self.dataset.feature_shapes, layout.microbatches)
    mesh = make_mesh(layout.mesh, devices, self.config.dcn_mesh_shape)
    partitioner = Partitioner(mesh, self.config.sharding_rules or ())
    model = Transformer(self.config.model)
    return layouts.is_fused(attention_choices(model, self._params, batch, partitioner))

  def estimate(self, layout: Layout) -> Estimate:
    """Returns the memory and the roofline of a layout."""
    model = self.config.model
    parameters, state = self._state(tuple(layout.mesh.items()))
    gradients = parameters * (2 if layout.microbatches > 1 else 1)
    temporary = (
      gradients
      + estimates.activation_bytes(model, layout, self.topology.platform)
      + estimates.gathered_bytes(model, self._parameters, layout)
    )
    return Estimate(layout, state, temporary, self.roofline(layout))

  def roofline(
    self,
    layout: Layout,
    sent: Sequence[collectives.Collective] | None = None,
    other_bytes: float | None = None,
  ) -> Roofline:
    """Returns the roofline of a layout.

    Args:
      sent: the collectives of the compiled step; None takes those of the formula.
      other_bytes: what the kernels of the compiled step that are neither products nor attention
        read and write; None if it is not known.
    """
    model = dataclasses.replace(self.config.model, remat=layout.remat)
    model_flops = flops.step_flops(
      model, layout.batch_size, target_positions=self.dataset.max_targets, **self._lengths
    )
    return roofline(
      self.topology,
      self.collectives(layout) if sent is None else sent,
      model_flops=model_flops,
      executed_flops=model_flops + estimates.added_flops(model, layout),
      hbm_bytes=self.hbm_traffic(layout),
      other_bytes=other_bytes,
    )

  def collectives(self, layout: Layout) -> list[collectives.Collective]:
    """Returns what a step sends between devices, by formula."""
    return estimates.collectives(
      self.config.model,
      layout,
      self._parameters,
      self.across(layout.mesh) or {},
    )

  def across(self, mesh: Mapping[str, int]) -> dict[str, int] | None:
    """Returns the slices or nodes along each axis of a mesh, as partitioning.make_mesh places them.

    None: the axes data and fsdp do not split over them, and the others need a faster network.
    """
    if math.prod((self.config.dcn_mesh_shape or {}).values()) == self.topology.slices:
      given = dict(self.config.dcn_mesh_shape or {})
      return given if all(mesh[axis] % parts == 0 for axis, parts in given.items()) else None
    left, found = self.topology.slices, {}
    for axis in ("data", "fsdp"):
      found[axis] = math.gcd(mesh[axis], left)
      left //= found[axis]
    return found if left == 1 else None

  def hbm_traffic(self, layout: Layout) -> float:
    """Returns the bytes that a chip reads and writes in a step, by formula."""
    parameters, state = self._state(tuple(layout.mesh.items()))
    return estimates.hbm_traffic(self.config.model, layout, self._parameters, state, parameters)

  def alternatives(self, layout: Layout, too_large: compilation.TooLarge) -> list[dict[str, Any]]:
    """Returns the three changes of a layout that fit by formula and cost the least time.

    The formula is scaled to the memory that the compiler needed for the layout that did not fit.
    """
    own = self.estimate(layout)
    scale = 1.0
    if too_large.needed > own.state_bytes:
      scale = max(1.0, (too_large.needed - own.state_bytes) / own.temporary_bytes)
    limit = MARGIN * self.topology.chip.usable_hbm_bytes
    by_kind: dict[str, list[tuple[int, float, float, str]]] = {}
    for other in [*self.layouts(), *self._with_smaller_batches(layout)]:
      settings = layouts.settings_that_differ(layout, other)
      estimate = self.estimate(other)
      size = estimate.state_bytes + scale * estimate.temporary_bytes
      if settings and size <= limit:
        seconds = estimate.roofline.seconds * layout.batch_size / other.batch_size
        kind = "+".join(sorted(settings))
        text = ", ".join(settings.values())
        by_kind.setdefault(kind, []).append((len(settings), seconds, size, text))
    best = sorted((min(found) for found in by_kind.values()), key=lambda x: x[:2])
    return [
      {"change": text, "hbm_bytes_per_chip": int(size), "seconds": seconds, "checked_by": "formula"}
      for _, seconds, size, text in best[:3]
    ]

  def _with_smaller_batches(self, layout: Layout) -> list[Layout]:
    """Returns the layout with a half to a sixteenth of the rows, if the mesh divides them."""
    parts = self._batch_parts(layout.mesh) * layout.microbatches
    return [
      dataclasses.replace(layout, batch_size=layout.batch_size // n)
      for n in (2, 4, 8, 16)
      if layout.batch_size % (n * parts) == 0
    ]

  def _batch_parts(self, mesh: Mapping[str, int]) -> int:
    """Returns what the rows of a microbatch have to be a multiple of."""
    experts = self.config.model.experts
    return layouts.batch_parts(mesh) * (experts.rows_per_group if experts else 1)

  def _meshes(self) -> Iterator[dict[str, int]]:
    """Yields every mesh of the topology's chips that divides the model and the rows."""
    experts, total = self.config.model.experts, self.topology.chips
    for expert in estimates.divisors(math.gcd(total, experts.num_experts) if experts else 1):
      for others in self._meshes_of(total // expert):
        mesh = {axis: others.get(axis, expert) for axis in MESH_AXES}
        # The capacity of an expert counts the tokens of whole rows.
        cut = experts is not None and experts.capacity_factor and mesh["sequence"] > 1
        if not cut and self.across(mesh) is not None:
          yield mesh

  def _meshes_of(self, chips: int) -> Iterator[dict[str, int]]:
    """Yields the meshes of this many chips that divide the model and the rows, without "expert"."""
    model = self.config.model
    shortest = min(x for x in self._lengths.values() if x)
    for tensor in estimates.divisors(chips):
      widths = [model.num_heads, model.mlp_dim, model.vocab_size]
      if model.experts is not None:
        widths.append(expert_estimates.width(model))
      if tensor > _MOST_TENSOR or any(width % tensor for width in widths):
        continue
      for sequence in estimates.divisors(chips // tensor):
        rest = chips // tensor // sequence
        divides = all(x % sequence == 0 for x in self._lengths.values())
        needed = sequence == 1 or self.config.batch_size < chips // tensor
        if sequence > _MOST_SEQUENCE or not divides or not needed or sequence > shortest:
          continue
        for fsdp in estimates.divisors(rest):
          if model.emb_dim % fsdp == 0:
            mesh = {"data": rest // fsdp, "fsdp": fsdp}
            yield mesh | {"sequence": sequence, "tensor": tensor}

  def _state_bytes(self, mesh: tuple[tuple[str, int], ...]) -> tuple[int, int]:
    """Returns a device's bytes of the parameters, and of these and the optimizer's state."""
    names, sizes = zip(*mesh, strict=True)
    abstract = AbstractMesh(sizes, names, axis_types=(AxisType.Auto,) * len(names))
    partitioner = Partitioner(abstract, self.config.sharding_rules or ())  # type: ignore[arg-type]
    params = partitioner.params(self._boxed)
    opt_state = partitioner.like_params(self._opt_state, self._params, params)
    parameter_bytes = device_bytes(self._params, params)
    return parameter_bytes, parameter_bytes + device_bytes(self._opt_state, opt_state)


def _numbers_of_parameters(params: Any) -> estimates.Parameters:
  """Returns how many parameters a tree of them has in its layers, in experts, and elsewhere."""
  layers = experts = others = 0
  for path, x in jax.tree_util.tree_flatten_with_path(params)[0]:
    name = jax.tree_util.keystr(path)
    if "layers" not in name:
      others += x.size
    elif "['experts']" in name:
      experts += x.size
    else:
      layers += x.size
  return estimates.Parameters(layers, experts, others)
