"""Memory of a whole training step on TPUs that are compiled for ahead of time."""

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax

from launch.benchmarks import _topology
from t5x_style.losses import LossSums, plan_chunks
from t5x_style.models import Transformer, TransformerConfig
from t5x_style.partitioning import Partitioner
from t5x_style.training import optimizers, schedules, state, step, synthetic

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
  partitioner = Partitioner(_topology.tpu_mesh(topology, mesh_shape))
  rows = rows_per_device * partitioner.mesh.size
  dataset = synthetic.load(
    "decoder_only", rows, 0, feature_lengths={"targets": LENGTH}, vocab_size=MODEL.vocab_size
  )
  shapes = state.abstract_batch(dataset.feature_shapes)
  batch = {
    name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=partitioner.batch(len(x.shape)))
    for name, x in shapes.items()
  }
  schedule = schedules.rsqrt()
  optimizer = optimizers.adamw(schedule)
  loss = step.TrainingLoss(Transformer(MODEL), step.LossOptions(z_loss=z_loss))
  _, abstract, shardings = state.make_state(loss.model, optimizer, partitioner, shapes)
  billions = sum(x.size for x in jax.tree.leaves(abstract.params)) / 1e9
  axes = " x ".join(f"{axis}={size}" for axis, size in mesh_shape.items())
  group = (
    f"a training step of {billions:.2f}B parameters, vocabulary {MODEL.vocab_size:,}, "
    f"{rows_per_device} x {LENGTH:,} tokens a device (TPU {topology}, {axes}, ahead of time)"
  )
  for label, function in losses.items():
    with mock.patch.object(step, "linear_cross_entropy", function), partitioner.context():
      jitted = jax.jit(
        step.make_train_step(loss, optimizer, schedule),
        donate_argnums=0,
        out_shardings=(shardings, partitioner.replicated()),
      )
      memory = temporary_memory(jitted.lower(abstract, batch))
      chunks = plan_chunks((rows, LENGTH, MODEL.emb_dim), MODEL.vocab_size, MODEL.dtype)
    yield {"group": group, "label": label, "temporary_bytes": memory, "chunks": str(chunks)}


def temporary_memory(lowered: jax.stages.Lowered) -> int | None:
  """Bytes on a device beyond arguments and outputs; None where the program does not fit it."""
  compiled = compile_if_it_fits(lowered)
  return compiled and compiled.memory_analysis().temp_size_in_bytes  # type: ignore[return-value]


def compile_if_it_fits(lowered: jax.stages.Lowered) -> jax.stages.Compiled | None:
  try:
    return lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return None
