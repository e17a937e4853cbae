"""Layouts: how a batch and the layers of a model are split over devices, and what is recomputed."""

import dataclasses
from collections.abc import Mapping

from t5x_style.models.attention_kernels.pattern import KernelChoice
from t5x_style.models.config import Remat
from t5x_style.training import setup, train_config
from t5x_style.training.dataset import Dataset, tokens_per_row

_KEEPING_WEIGHTS = ("xla", "blocked")  # the latter where it is unrolled


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh, a number of microbatches and a remat policy, with the sizes of the batch.

  Attributes:
    mesh: devices along every axis.
    microbatches: parts of the batch that are computed one after the other.
    remat: which activations the backward pass recomputes.
    batch_size: rows of the global batch.
    encoder_length, decoder_length: tokens per row; 0 where the model has no such side.
    target_positions: positions per row that are projected on the vocabulary; None is all.
    fused_attention: whether every attention is computed by a kernel that keeps no weights.
  """

  mesh: Mapping[str, int]
  microbatches: int
  remat: Remat
  batch_size: int
  encoder_length: int = 0
  decoder_length: int = 0
  target_positions: int | None = None
  fused_attention: bool = False

  def rows(self) -> float:
    """Returns the rows of one microbatch on one device."""
    return self.batch_size / (batch_parts(self.mesh) * self.microbatches)


def batch_parts(mesh: Mapping[str, int]) -> int:
  """Returns into how many parts a mesh splits the rows of a batch."""
  return mesh["data"] * mesh["fsdp"] * mesh.get("expert", 1)


def layout_of_config(
  config: train_config.TrainConfig,
  dataset: Dataset,
  mesh: dict[str, int],
  fused_attention: bool = False,
) -> Layout:
  """Returns the layout of a configuration on a mesh given as {axis: devices}."""
  return Layout(
    mesh=mesh,
    microbatches=config.num_microbatches,
    remat=config.model.remat,
    batch_size=config.batch_size,
    target_positions=dataset.max_targets,
    fused_attention=fused_attention,
    **tokens_per_row(dataset.feature_shapes),
  )


def layout_of_prepared(prepared: setup.Prepared) -> Layout:
  """Returns the layout of a run that is prepared."""
  mesh = dict(prepared.partitioner.mesh.shape)
  return layout_of_config(prepared.config, prepared.dataset, mesh, is_fused(prepared.attention))


def is_fused(attention: Mapping[str, KernelChoice]) -> bool:
  """Returns whether the kernels chosen for a model's attention all keep no attention weights."""
  return all(choice.name not in _KEEPING_WEIGHTS for choice in attention.values())


def with_layout(config: train_config.TrainConfig, layout: Layout) -> train_config.TrainConfig:
  """Returns the configuration with the mesh, the microbatches and the remat policy of a layout."""
  return dataclasses.replace(
    config,
    mesh_shape=dict(layout.mesh),
    num_microbatches=layout.microbatches,
    model=dataclasses.replace(config.model, remat=layout.remat),
  )


def settings_that_differ(layout: Layout, other: Layout) -> dict[str, str]:
  """Returns {what differs: the setting to write for `other`}, e.g. {"remat": "REMAT = 'full'"}."""
  settings = {}
  if other.remat != layout.remat:
    settings["remat"] = f"REMAT = {other.remat!r}"
  if other.microbatches != layout.microbatches:
    settings["microbatches"] = f"NUM_MICROBATCHES = {other.microbatches}"
  before, mesh = (
    {axis: size for axis, size in one.mesh.items() if size > 1} for one in (layout, other)
  )
  if mesh != before:
    settings["mesh"] = f"MESH_SHAPE = {mesh}"
  if other.batch_size != layout.batch_size:
    settings["batch"] = f"BATCH_SIZE = {other.batch_size}"
  return settings
