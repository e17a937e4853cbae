"""Memory of a whole training step on TPUs that are compiled for ahead of time."""

import functools
import tempfile
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax

from t5x_style.losses import LossSums
from t5x_style.models import TransformerConfig
from t5x_style.planning import topologies
from t5x_style.training import (
  loss,
  optimizers,
  schedules,
  setup,
  synthetic,
  train_config,
)
from t5x_style.training.step import compile_step

# The sizes of Gemma 3 1B (its report, table 1): a third of the parameters is the vocabulary.
MODEL = TransformerConfig(
  vocab_size=262_144,
  emb_dim=1152,
  num_heads=4,
  num_kv_heads=1,
  head_dim=256,
  mlp_dim=6912,
  num_decoder_layers=26,
  positions="rotary",
  dtype="bfloat16",
  remat="full",
)
LENGTH = 2048


def measure(
  topology: str,
  mesh_shape: dict[str, int],
  rows_per_device: int,
  losses: dict[str, Callable[..., LossSums]],
  z_loss: float,
) -> Iterator[dict[str, Any]]:
  """A row per loss: bytes on each device of the step compiled with it, None where it is too much.

  Args:
    losses: functions of the arguments of linear_cross_entropy, put in its place.
  """
  devices = topologies.devices(topology)
  load: Any = functools.partial(
    synthetic.load, feature_lengths={"targets": LENGTH}, vocab_size=MODEL.vocab_size
  )
  with tempfile.TemporaryDirectory() as folder:
    prepared = setup.prepare(
      train_config.TrainConfig(
        model=MODEL,
        dataset=load,
        optimizer=optimizers.adamw,
        schedule=schedules.rsqrt(),
        model_dir=folder,
        train_steps=1,
        batch_size=rows_per_device * len(devices),
        loss=loss.LossOptions(z_loss=z_loss),
        mesh_shape=mesh_shape,
      ),
      devices,
    )
  axes = " x ".join(f"{axis}={size}" for axis, size in mesh_shape.items())
  group = (
    f"a training step of {prepared.num_parameters / 1e9:.2f}B parameters, vocabulary "
    f"{MODEL.vocab_size:,}, {rows_per_device} x {LENGTH:,} tokens a device "
    f"(TPU {topology}, {axes}, ahead of time)"
  )
  for label, function in losses.items():
    with mock.patch.object(loss, "linear_cross_entropy", function):
      compiled = if_it_fits(functools.partial(compile_step, prepared))
    yield {"group": group, "label": label, "temporary_bytes": temporary_bytes(compiled)}


def if_it_fits(compile_program: Callable[[], jax.stages.Compiled]) -> jax.stages.Compiled | None:
  """The compiled program; None where it needs more memory than the device has."""
  try:
    return compile_program()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return None


def temporary_bytes(compiled: jax.stages.Compiled | None) -> int | None:
  """On each device, beyond arguments and outputs."""
  memory = compiled.memory_analysis() if compiled else None
  return memory.temp_size_in_bytes if memory else None
