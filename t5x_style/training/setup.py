"""Builds and checks all parts of a run before anything is compiled."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from etils import epath

from t5x_style import hardware
from t5x_style.errors import UserError, shortened
from t5x_style.models import Transformer, TransformerConfig, fp8
from t5x_style.models.attention_kernels.pattern import KernelChoice
from t5x_style.models.kernel_choices import attention_choices
from t5x_style.partitioning import Partitioner, default_mesh_shape, make_mesh
from t5x_style.training import finite_checks, flops, resuming
from t5x_style.training.dataset import (
  Dataset,
  FeatureShapes,
  microbatch_shapes,
  tokens_per_row,
)
from t5x_style.training.layer_decay import with_layer_decay
from t5x_style.training.loss import LossOptions, TrainingLoss
from t5x_style.training.metrics import means
from t5x_style.training.stage import Stage
from t5x_style.training.state import TrainState, named_leaves, plan_state, state_bytes
from t5x_style.training.train_config import TrainConfig
from t5x_style.training.transferred_rates import with_transferred_rates

# Up to this many rows of the embedding that no id of the data uses are padding; more are probably
# a mistake, unless they come from a checkpoint.
_VOCABULARY_SLACK = 1024


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A run with all its parts built and checked; nothing is compiled or trained yet."""

  config: TrainConfig
  dataset: Dataset
  partitioner: Partitioner
  loss: TrainingLoss
  optimizer: optax.GradientTransformation
  init: Callable[[int], TrainState]  # seed -> a new state
  abstract: TrainState  # shapes, dtypes and shardings
  mesh_reason: str = ""  # why the mesh was chosen, where MESH_SHAPE is None
  attention: Mapping[str, KernelChoice] = dataclasses.field(default_factory=dict)
  stage: Stage = dataclasses.field(default_factory=Stage)  # by default all of the run

  @property
  def model_dir(self) -> epath.Path:
    return epath.Path(self.config.model_dir).expanduser()

  @property
  def last_step(self) -> int:
    """The steps of the run at the end of this stage."""
    most = self.config.train_steps
    return most if self.stage.last is None else min(self.stage.last, most)

  @property
  def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
    """The features of a global batch, with their shardings."""
    return {
      name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.partitioner.batch(len(x.shape)))
      for name, x in self.dataset.feature_shapes.items()
    }

  @property
  def shardings(self) -> TrainState:
    return jax.tree.map(lambda x: x.sharding, self.abstract)

  @functools.cached_property
  def find_not_finite(self) -> Callable[[TrainState], list[str]]:
    """Finds the arrays of a state that are not finite; compiled once, for restoring and saving."""
    return finite_checks.make_find_not_finite(self.abstract)

  @property
  def evaluation_loss(self) -> TrainingLoss:
    """The loss of held-out batches: without z-loss and label smoothing."""
    return dataclasses.replace(
      self.loss, options=LossOptions(), exact_match=self.dataset.exact_match
    )

  @property
  def num_parameters(self) -> int:
    return sum(x.size for x in jax.tree.leaves(self.abstract.params))

  @property
  def num_active_parameters(self) -> int:
    """Those that a token uses: of the experts, the ones that it goes to."""
    experts = self.config.model.experts
    if experts is None:
      return self.num_parameters
    named = named_leaves(self.abstract.params)
    of_experts = sum(x.size for name, x in named.items() if "/experts/" in name)
    idle = experts.num_experts - experts.experts_per_token
    return self.num_parameters - of_experts * idle // experts.num_experts

  @property
  def step_flops(self) -> float:
    """FLOPs of one step on the global batch."""
    return flops.step_flops(
      self.config.model,
      self.config.batch_size,
      target_positions=self.dataset.max_targets,
      **tokens_per_row(self.dataset.feature_shapes),
    )

  @property
  def peak_flops(self) -> float | None:
    """Peak bf16 FLOP/s of the whole mesh, None where it is not known."""
    devices = self.partitioner.mesh.devices
    peak = hardware.peak_flops(devices.flat[0])
    return peak * devices.size if peak else None

  def identity(self) -> dict[str, Any]:
    """Returns what must be equal for a run to resume from a checkpoint."""
    identity = resuming.identity(self.config, self.dataset)
    return identity | ({"past_stages": list(self.stage.past)} if self.stage.past else {})

  def settings(self, updates: int) -> dict[str, Any]:
    """Returns what a checkpoint holds of the settings that may change when the run resumes.

    Args:
      updates: how many the optimizer has made.
    """
    return resuming.settings(self.config, self.partitioner, updates) | {
      "layout": resuming.layout(self.abstract),
      "files": self.dataset.files(),
    }

  def changes(self, before: Mapping[str, Any], step: int) -> list[str]:
    """Returns a line for each setting that has changed since a checkpoint; see resuming.changes."""
    return resuming.changes(before, self.config, self.partitioner, step)


def prepare(
  config: TrainConfig, devices: Sequence[jax.Device] | None = None, stage: Stage | None = None
) -> Prepared:
  """Builds and checks every part of a run; finds all mistakes in a configuration.

  Args:
    devices: of the mesh; JAX's own if None. With those of a topology that this machine does not
      have, the run can only be compiled.
    stage: the part of the run that is trained with this configuration; None: all of it.

  Raises:
    UserError: parts do not fit together; the message names the setting to change.
  """
  stage = stage or Stage()
  model, optimizer = Transformer(config.model), make_optimizer(config)
  partitioner, mesh_reason = _partition(config, optimizer, devices)
  partitioner.check_batch(config.batch_size, config.num_microbatches)
  if config.model.fp8:
    fp8.warn_if_emulated(partitioner.mesh.devices.flat[0])
  dataset = _open_dataset(config, partitioner, stage)
  features = dataset.feature_shapes
  partitioner.check_lengths(features)
  _warn_of_long_rows(config.model, features)
  init, abstract = plan_state(model, optimizer, partitioner, features)
  loss = TrainingLoss(
    model,
    config.loss,
    max_targets=dataset.max_targets,
    token_bytes=dataset.token_bytes,
    num_components=len(dataset.component_names),
    labels_only=bool(dataset.label_names),
  )
  microbatch = microbatch_shapes(features, config.num_microbatches)
  attention = attention_choices(model, abstract.params, microbatch, partitioner)
  prepared = Prepared(
    config, dataset, partitioner, loss, optimizer, init, abstract, mesh_reason, attention, stage
  )
  _check_best_metric(prepared)
  return prepared


def _check_best_metric(prepared: Prepared) -> None:
  """Raises UserError if the validation records will not have BEST_METRIC."""
  chosen, loss = prepared.config.best_metric, prepared.evaluation_loss
  if chosen == "loss":
    return

  def sums(params, batch):
    return loss(params, batch, loss.scales(batch))[1]

  with prepared.partitioner.context():
    shapes = jax.eval_shape(sums, prepared.abstract.params, prepared.batch)
  names = means(jax.tree.map(lambda x: np.ones(x.shape), shapes), prepared.dataset.component_names)
  names.pop("z_loss", None)  # Of training only.
  if chosen not in names:
    raise UserError(
      f"BEST_METRIC = {chosen!r} is not in the validation records of this run; they have "
      f"{', '.join(names)}."
    )


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
  """Returns the optimizer of a run, with the rates of each parameter and clipping of gradients."""
  optimizer = with_transferred_rates(config.optimizer(config.schedule), config.model)
  if config.layer_decay is not None:
    optimizer = with_layer_decay(optimizer, config.model, config.layer_decay)
  if config.clip_gradient_norm is None:
    return optimizer
  return optax.chain(optax.clip_by_global_norm(config.clip_gradient_norm), optimizer)


def _partition(
  config: TrainConfig,
  optimizer: optax.GradientTransformation,
  devices: Sequence[jax.Device] | None,
) -> tuple[Partitioner, str]:
  """Returns the partitioner, and why its mesh was chosen if the configuration sets none."""
  devices = jax.devices() if devices is None else list(devices)
  shape, reason = config.mesh_shape, ""
  if shape is None and len(devices) > 1:
    shape, reason = default_mesh_shape(state_bytes(config.model, optimizer), devices)
  mesh = make_mesh(shape, devices, config.dcn_mesh_shape)
  if mesh.shape["expert"] > 1 and config.model.experts is None:
    raise UserError(
      f"MESH_SHAPE = {shape} has {mesh.shape['expert']} devices along expert, and the model has no "
      "experts; use data or fsdp instead."
    )
  return Partitioner(mesh, config.sharding_rules or ()), reason


def _open_dataset(config: TrainConfig, partitioner: Partitioner, stage: Stage) -> Dataset:
  """Opens the dataset of this process' rows; checks that its vocabulary and features fit."""
  index, count = partitioner.data_share()
  dataset = config.dataset(
    architecture=config.model.architecture,
    batch_size=config.batch_size,
    seed=stage.data_seed(config.seed),
    process_index=index,
    process_count=count,
  )
  check_vocabulary(config, dataset.vocab_size)
  classes = len(dataset.label_names)
  if classes and classes != config.model.pooled_classes:
    raise UserError(
      f"The data has {classes} labels ({', '.join(shortened(dataset.label_names))}), but the "
      f"model's head has {config.model.pooled_classes} classes; set NUM_CLASSES = {classes}."
    )
  if "pair_labels" in dataset.feature_shapes and config.model.pooled_classes < 2:
    raise UserError(
      "The objective asks about pairs of sentences, but the model has no head for them: set "
      "config.TransformerConfig.pooled_classes = 2 (and num_token_types = 2, to tell them apart)."
    )
  return dataset


def check_enough_data(prepared: Prepared) -> None:
  """Raises UserError if the data ends before the last step; of a stream that is not known.

  An evaluation, or a plan without data, does not need them all.
  """
  most: int | None = getattr(prepared.dataset, "most_batches", None)
  stage = prepared.stage
  steps = prepared.last_step - stage.first
  if most is None or most >= steps:
    return
  name = f" of stage {stage.number}, {stage.name!r}," if stage.name else ""
  raise UserError(
    f"The data{name} ends before the last step: with the limits of CORPUS_EPOCHS its corpora "
    f"suffice for {most:,} batches of BATCH_SIZE = {prepared.config.batch_size} rows, and "
    f"{steps:,} steps are to be trained (step {stage.first + 1:,} to {prepared.last_step:,}). "
    f"End it after step {stage.first + most:,} (TRAIN_STEPS, or 'after_steps' of the next stage), "
    "or raise a limit in CORPUS_EPOCHS."
  )


def _warn_of_long_rows(model: TransformerConfig, features: FeatureShapes) -> None:
  """Warns if rows are longer than those that the model's rotary positions were scaled for."""
  scaling = model.rotary_scaling
  if scaling is None or scaling.kind == "llama3":
    return
  longest = max(tokens_per_row(features).values())
  reach = scaling.factor * scaling.original_length
  if longest > reach:
    warnings.warn(
      f"Rows have {longest:,} tokens, and positions are scaled for {reach:,.0f}: "
      f"{scaling.factor:g} times the {scaling.original_length:,} of the first training. Set "
      f"CONTEXT_FACTOR = {longest / scaling.original_length:g}, or shorten TASK_FEATURE_LENGTHS.",
      stacklevel=1,
    )


def check_vocabulary(config: TrainConfig, data_size: int) -> None:
  """Raises UserError unless every id of the data has a row, and few rows have no id.

  A checkpoint to start from may have any number of additional rows: published models are padded,
  some by thousands of rows.
  """
  rows, path = config.model.vocab_size, config.initial_checkpoint_path
  if data_size > rows:
    raise UserError(
      f"The vocabulary of the data has {data_size} ids, the model only {rows} rows; "
      f"set VOCAB_SIZE = {data_size} (a multiple of 128 is fastest)."
    )
  if rows - data_size > _VOCABULARY_SLACK and not path:
    raise UserError(
      f"The vocabulary of the data has {data_size} ids, smaller than the model's {rows}: "
      f"{rows - data_size} rows would never be trained. Set VOCAB_SIZE = "
      f"{-(-data_size // 128) * 128}, or a vocabulary that fits the model."
    )
