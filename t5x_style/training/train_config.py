"""The configuration of a run; every field can be set in gin."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from t5x_style.errors import UserError
from t5x_style.models import TransformerConfig
from t5x_style.partitioning.sharding import Rules
from t5x_style.setting_types import (
  LayerRule,
  NonNegativeInt,
  OpenFraction,
  PositiveFloat,
  PositiveInt,
  Seed,
  Text,
)
from t5x_style.training.dataset import LoadDataset
from t5x_style.training.loss import LossOptions
from t5x_style.training.optimizers import Optimizer
from t5x_style.training.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """The configuration of a run. Times are in steps, sizes of batches in rows.

  Attributes:
    model: the Transformer's configuration.
    dataset: called with (architecture, batch_size, seed, process_index, process_count).
    optimizer: called with the schedule.
    schedule: from the number of steps taken to the learning rate.
    model_dir: the folder of everything that the run writes.
    initial_checkpoint_path: parameters to start from, None for random ones.
    initial_checkpoint_adapt: None: they are those of this very model (VOCAB_SIZE may be larger).
      Otherwise the checkpoint may be of another architecture or have other numbers of layers; the
      rule says which layers are chosen then (t5x_style.checkpoints.adaptation, layer_choice).
    mesh_shape: devices along data, fsdp, expert, sequence and tensor; if None, the model's size
      decides (t5x_style.partitioning.default_mesh).
    dcn_mesh_shape: slices or nodes along these axes, if there are several.
    sharding_rules: rules that come before DEFAULT_RULES of t5x_style.partitioning.sharding.
    keep_best_checkpoints: how many checkpoints stay besides the newest: the best by best_metric, of
      those that were evaluated. MODEL_DIR/best names the best one wherever a checkpoint is read.
    best_metric: a name in the validation records: loss, accuracy, exact_match, bits_per_byte, ...
    max_failed_saves: this many failed saves in a row, for example on a full disk, end the run.
    verify_checkpoints: digests of all arrays are saved with a checkpoint, and compared when it is
      restored.
    profile_steps: the first and the last step to profile; None profiles nothing.
    deterministic: whether a repeated run has the same bits on GPUs, too (launch.process.environment
      says how far); on CPUs and TPUs it has them anyway.
    hang_minutes: after so long without a step, a held-out batch or the end of a save, the process
      writes the stacks of its threads and ends with exit code 76; None: never. Compiling, opening
      the data and restoring may take as long, each.
    clip_gradient_norm: gradients with a larger global norm are scaled down to it; None: never.
    layer_decay: the learning rate falls by this factor with each layer below the head
      (t5x_style.training.layer_decay); None: all parameters have the same rate.
    max_skipped_steps: steps in a row whose loss or gradient is not finite (none of them updates the
      parameters) after which the run ends. As many spikes in a row are taken for a
      lasting change: the run rolls back (with roll_back and spike_sigmas), or takes them as normal.
    spike_sigmas: a step whose loss or gradient norm is this many standard deviations above the mean
      of the last 128 steps is skipped too (t5x_style.training.guard); None: it is only counted.
    loss: what is added to the cross-entropy, and what the sum is divided by.
    stages: {name: {"after_steps": 1000, "BATCH_SIZE": 64, ...}}: after 1000 steps, macros of the
      gin files have other values (t5x_style.training.stages says which may change).
    roll_back: after max_skipped_steps in a row, restores the newest checkpoint and trains on with
      the data that follows, instead of ending (PaLM, Chowdhery et al. 2022, section 5.1).
  """

  model: TransformerConfig
  dataset: LoadDataset
  optimizer: Optimizer
  schedule: Schedule
  model_dir: Text
  train_steps: PositiveInt
  batch_size: PositiveInt
  eval_period: PositiveInt = 1000
  eval_batches: PositiveInt = 20
  save_period: PositiveInt = 1000
  log_period: PositiveInt = 100
  keep_checkpoints: PositiveInt = 3
  keep_best_checkpoints: NonNegativeInt = 1
  best_metric: Text = "loss"
  max_failed_saves: PositiveInt = 5
  verify_checkpoints: bool = True
  num_microbatches: PositiveInt = 1
  clip_gradient_norm: PositiveFloat | None = None
  layer_decay: OpenFraction | None = None
  max_skipped_steps: PositiveInt = 5
  spike_sigmas: PositiveFloat | None = None
  roll_back: bool = False
  loss: LossOptions = dataclasses.field(default_factory=LossOptions)
  mesh_shape: Mapping[str, int] | None = None
  dcn_mesh_shape: Mapping[str, int] | None = None
  sharding_rules: Rules = ()
  initial_checkpoint_path: Text | None = None
  initial_checkpoint_adapt: LayerRule | None = None
  profile_steps: tuple[PositiveInt, PositiveInt] | None = None
  hang_minutes: PositiveFloat | None = 60.0
  deterministic: bool = False
  stages: Mapping[Text, Mapping[Text, Any]] = dataclasses.field(default_factory=dict)
  seed: Seed = 0

  def __post_init__(self):
    check_profile_steps(self.profile_steps, self.train_steps)
    if self.initial_checkpoint_adapt and not self.initial_checkpoint_path:
      raise UserError(
        f"INITIAL_CHECKPOINT_ADAPT = {self.initial_checkpoint_adapt!r} with "
        "INITIAL_CHECKPOINT_PATH = None: set the checkpoint to start from as well."
      )


def check_profile_steps(steps: Any, train_steps: int) -> None:
  """Raises UserError unless `steps` is None or two steps of the run, in order."""
  if steps is None:
    return
  whole = isinstance(steps, (tuple, list)) and [type(x) for x in steps] == [int, int]
  if not whole or not 1 <= steps[0] <= steps[1] <= train_steps:
    raise UserError(
      f"PROFILE_STEPS = {steps!r} must be the first and the last step to trace, of those from 1 to "
      f"TRAIN_STEPS = {train_steps}; leave out the first ones, which are slower: "
      '--gin.PROFILE_STEPS="(10, 12)".'
    )
