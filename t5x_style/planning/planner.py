"""Layouts of a run on a topology, compared by formula: what fits, and which is quickest."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType

from t5x_style.models import Transformer
from t5x_style.models.attention_kernels.choice import Choice
from t5x_style.models.config import Remat
from t5x_style.models.kernel_choices import attention_choices
from t5x_style.partitioning import MESH_AXES, Partitioner, make_mesh
from t5x_style.planning import collectives, compilation, estimates
from t5x_style.planning.estimates import Layout
from t5x_style.planning.roofline import Roofline, roofline
from t5x_style.planning.topologies import Topology
from t5x_style.training import flops, setup, train_config
from t5x_style.training.dataset import microbatch_shapes, tokens_per_row

_REMAT: tuple[Remat, ...] = ("none", "dots", "full")
_KEEPING_WEIGHTS = ("xla", "blocked")  # the latter where it is unrolled
_MICROBATCHES = (1, 2, 4, 8, 16, 32, 64)
_MOST_TENSOR, _MOST_SEQUENCE = 16, 8
MARGIN = 0.9  # of the memory, that the formula may fill


class Estimate(NamedTuple):
  """A layout by formula; bytes of a chip."""

  layout: Layout
  state_bytes: float
  temporary_bytes: float
  roofline: Roofline

  @property
  def bytes(self) -> float:
    return self.state_bytes + self.temporary_bytes


class Planner:
  """Formulas for one run on one topology; a layout costs well under a millisecond."""

  def __init__(
    self,
    config: train_config.TrainConfig,
    dataset: Any,
    topology: Topology,
    fused_attention: bool = False,
  ):
    """Traces the model once.

    Args:
      fused_attention: whether a kernel computes the attention that keeps no weights.
    """
    self.config, self.dataset, self.topology = config, dataset, topology
    self._fused_attention = fused_attention
    self._lengths = tokens_per_row(dataset.feature_shapes)
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
    self._boxed = jax.eval_shape(Transformer(config.model).init, jax.random.key(0), batch)["params"]
    self._params = nn.meta.unbox(self._boxed)
    self._opt_state = jax.eval_shape(config.optimizer(config.schedule).init, self._params)
    sizes = jax.tree_util.tree_flatten_with_path(self._params)[0]
    in_layers = [x.size for path, x in sizes if "layers" in jax.tree_util.keystr(path)]
    self._layer_parameters = sum(in_layers)
    self._other_parameters = sum(x.size for _, x in sizes) - self._layer_parameters
    self._num_layers = config.model.num_encoder_layers + config.model.num_decoder_layers
    self._state = functools.cache(self._state_bytes)

  def layouts(self) -> Iterator[Layout]:
    """Every layout that divides: all meshes, microbatches and remat policies."""
    base = layout_of_run(
      self.config, self.dataset, dict.fromkeys(MESH_AXES, 1), self._fused_attention
    )
    for mesh in self._meshes():
      parts = mesh["data"] * mesh["fsdp"]
      for microbatches, remat in itertools.product(_MICROBATCHES, _REMAT):
        if self.config.batch_size % (parts * microbatches) == 0:
          yield dataclasses.replace(base, mesh=mesh, microbatches=microbatches, remat=remat)

  def fused_attention(self, layout: Layout, devices: Sequence[jax.Device]) -> bool:
    """Whether kernels that keep no attention weights compute all of the attention on its mesh."""
    batch = microbatch_shapes(self.dataset.feature_shapes, layout.microbatches)
    mesh = make_mesh(layout.mesh, devices, self.config.dcn_mesh_shape)
    partitioner = Partitioner(mesh, self.config.sharding_rules or ())
    model = Transformer(self.config.model)
    return _all_fused(attention_choices(model, self._params, batch, partitioner))

  def estimate(self, layout: Layout) -> Estimate:
    model = self.config.model
    parameters, state = self._state(tuple(layout.mesh.items()))
    gradients = parameters * (2 if layout.microbatches > 1 else 1)
    temporary = (
      gradients
      + estimates.activation_bytes(model, layout)
      + estimates.gathered_bytes(model, self._layer_parameters / self._num_layers, layout)
    )
    return Estimate(layout, state, temporary, self.roofline(layout))

  def roofline(self, layout: Layout) -> Roofline:
    model = dataclasses.replace(self.config.model, remat=layout.remat)
    useful = flops.step_flops(
      model, layout.batch_size, target_positions=self.dataset.max_targets, **self._lengths
    )
    return roofline(
      self.topology,
      self.collectives(layout),
      model_flops=useful,
      executed_flops=useful + estimates.recomputed_flops(model, layout),
      hbm_bytes=self.hbm_traffic(layout),
    )

  def collectives(self, layout: Layout) -> list[collectives.Collective]:
    return estimates.collectives(
      self.config.model, layout, self._layer_parameters, self._other_parameters
    )

  def hbm_traffic(self, layout: Layout) -> float:
    parameters, state = self._state(tuple(layout.mesh.items()))
    return estimates.hbm_traffic(
      self.config.model, layout, self._layer_parameters, state, parameters
    )

  def nearest(self, layout: Layout, too_large: compilation.TooLarge) -> list[dict[str, Any]]:
    """The three changes of a layout that fit by formula and cost the least time.

    The formula is scaled to what the compiler asked for of the layout that did not fit.
    """
    own = self.estimate(layout)
    scale = 1.0
    if too_large.needed > own.state_bytes:
      scale = max(1.0, (too_large.needed - own.state_bytes) / own.temporary_bytes)
    limit = MARGIN * self.topology.chip.usable_hbm_bytes
    by_kind: dict[str, list[tuple[int, float, float, str]]] = {}
    halves = [
      dataclasses.replace(layout, batch_size=layout.batch_size // n)
      for n in (2, 4, 8, 16)
      if layout.batch_size % (n * layout.mesh["data"] * layout.mesh["fsdp"]) == 0
    ]
    for other in [*self.layouts(), *halves]:
      changes = _changes(layout, other)
      size = (one := self.estimate(other)).state_bytes + scale * one.temporary_bytes
      if changes and size <= limit:
        seconds = one.roofline.seconds * layout.batch_size / other.batch_size
        kind = "+".join(sorted(changes))
        text = ", ".join(changes.values())
        by_kind.setdefault(kind, []).append((len(changes), seconds, size, text))
    best = sorted((min(found) for found in by_kind.values()), key=lambda x: x[:2])
    return [
      {"change": text, "hbm_bytes_per_chip": int(size), "seconds": seconds, "checked_by": "formula"}
      for _, seconds, size, text in best[:3]
    ]

  def _meshes(self) -> Iterator[dict[str, int]]:
    model, chips = self.config.model, self.topology.chips
    shortest = min(x for x in self._lengths.values() if x)
    for tensor in estimates.divisors(chips):
      widths = (model.num_heads, model.mlp_dim, model.vocab_size)
      if tensor > _MOST_TENSOR or any(width % tensor for width in widths):
        continue
      for sequence in estimates.divisors(chips // tensor):
        rest = chips // tensor // sequence
        divides = all(x % sequence == 0 for x in self._lengths.values())
        needed = sequence == 1 or self.config.batch_size < chips // tensor
        if sequence > _MOST_SEQUENCE or not divides or not needed or sequence > shortest:
          continue
        for fsdp in estimates.divisors(rest):
          data = rest // fsdp
          if model.emb_dim % fsdp == 0 and data % self.topology.slices == 0:
            yield {"data": data, "fsdp": fsdp, "sequence": sequence, "tensor": tensor}

  def _state_bytes(self, mesh: tuple[tuple[str, int], ...]) -> tuple[int, int]:
    """Parameters, and these and the optimizer's state."""
    names, sizes = zip(*mesh, strict=True)
    abstract = AbstractMesh(sizes, names, axis_types=(AxisType.Auto,) * len(names))
    partitioner = Partitioner(abstract, self.config.sharding_rules or ())  # type: ignore[arg-type]
    params = partitioner.params(self._boxed)
    opt_state = partitioner.like_params(self._opt_state, self._params, params)
    of_params, of_state = (
      sum(
        math.prod(sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x, sharding in zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
      )
      for tree, shardings in ((self._params, params), (self._opt_state, opt_state))
    )
    return of_params, of_params + of_state


def layout_of(prepared: setup.Prepared) -> Layout:
  mesh = dict(prepared.partitioner.mesh.shape)
  return layout_of_run(prepared.config, prepared.dataset, mesh, fused_attention(prepared))


def fused_attention(prepared: setup.Prepared) -> bool:
  """Whether kernels that keep no attention weights compute all of a run's attention."""
  return _all_fused(prepared.attention)


def _all_fused(choices: Mapping[str, Choice]) -> bool:
  return all(choice.name not in _KEEPING_WEIGHTS for choice in choices.values())


def layout_of_run(
  config: train_config.TrainConfig,
  dataset: Any,
  mesh: dict[str, int],
  fused_attention: bool = False,
) -> Layout:
  lengths = tokens_per_row(dataset.feature_shapes)
  return Layout(
    mesh=mesh,
    microbatches=config.num_microbatches,
    remat=config.model.remat,
    batch_size=config.batch_size,
    encoder_length=lengths.get("encoder_length", 0),
    decoder_length=lengths.get("decoder_length", 0),
    target_positions=dataset.max_targets,
    fused_attention=fused_attention,
  )


def apply(config: train_config.TrainConfig, layout: Layout) -> train_config.TrainConfig:
  """The run with a layout."""
  return dataclasses.replace(
    config,
    mesh_shape=dict(layout.mesh),
    num_microbatches=layout.microbatches,
    model=dataclasses.replace(config.model, remat=layout.remat),
  )


def _changes(layout: Layout, other: Layout) -> dict[str, str]:
  """{what: the setting to write} of what another layout changes."""
  changes = {}
  if other.remat != layout.remat:
    changes["remat"] = f"REMAT = {other.remat!r}"
  if other.microbatches != layout.microbatches:
    changes["microbatches"] = f"NUM_MICROBATCHES = {other.microbatches}"
  if dict(other.mesh) != dict(layout.mesh):
    mesh = {axis: size for axis, size in other.mesh.items() if size > 1}
    changes["mesh"] = f"MESH_SHAPE = {mesh}"
  if other.batch_size != layout.batch_size:
    changes["batch"] = f"BATCH_SIZE = {other.batch_size}"
  return changes
