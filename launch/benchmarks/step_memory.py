"""The memory of a whole training step on TPUs, compiled ahead of time."""

import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import jax

from t5x_style.losses import LossSums
from t5x_style.models import TransformerConfig
from t5x_style.planning import topologies
from t5x_style.training import loss, optimizers, schedules, setup, synthetic, train_config
from t5x_style.training.step import compile_step

from .compiled_programs import compile_or_none, temporary_bytes

# The sizes of Gemma 3 1B (Gemma 3 Technical Report 2025, table 1), where a third of the parameters
# belongs to the vocabulary. They are written out because gin_configs/models/ has no Gemma.
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
  """Yields a row per loss: temporary bytes of its step on each device, None if it does not fit.

  Args:
    losses: {label: function} that replaces linear_cross_entropy.
  """
  devices = topologies.devices(topology)
  prepared = _prepare(devices, mesh_shape, rows_per_device, z_loss)
  axes = " x ".join(f"{axis}={size}" for axis, size in mesh_shape.items())
  group = (
    f"a training step of {prepared.num_parameters / 1e9:.2f}B parameters, vocabulary "
    f"{MODEL.vocab_size:,}, {rows_per_device} x {LENGTH:,} tokens a device "
    f"(TPU {topology}, {axes}, ahead of time)"
  )
  for label, function in losses.items():
    with mock.patch.object(loss, "linear_cross_entropy", function):
      compiled = compile_or_none(functools.partial(compile_step, prepared))
    yield {"group": group, "label": label, "temporary_bytes": temporary_bytes(compiled)}


def _prepare(
  devices: Sequence[jax.Device], mesh_shape: dict[str, int], rows_per_device: int, z_loss: float
) -> setup.Prepared:
  load: Any = functools.partial(
    synthetic.load, feature_lengths={"targets": LENGTH}, vocab_size=MODEL.vocab_size
  )
  with tempfile.TemporaryDirectory() as folder:
    config = train_config.TrainConfig(
      model=MODEL,
      dataset=load,
      optimizer=optimizers.adamw,
      schedule=schedules.rsqrt(),
      model_dir=folder,
      train_steps=1,
      batch_size=rows_per_device * len(devices),
      loss=loss.LossOptions(z_loss=z_loss),
      mesh_shape=mesh_shape,
    )
    return setup.prepare(config, devices)
