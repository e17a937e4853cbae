"""The output projection and its loss, forward and backward: time and memory, plain and lean.

Time is the median of rounds in which the variants take turns. TFLOP/s counts three products with
the vocabulary, whatever a variant does. Temporary memory is the compiled program's; "beyond" leaves
out what of it holds gradients (the kernel's sum over chunks, hidden's), as the plain program's
gradients are outputs. `less` is plain's temporary memory over that.
"""

import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from t5x_style.losses import gather_targets, linear_cross_entropy, plan_chunks

COLUMNS = {
  "milliseconds": ("ms", ",.1f"),
  "teraflops": ("TFLOP/s", ".2f"),
  "time_ratio": ("of plain", ".2f"),
  "temporary_mib": ("temp MiB", ",.0f"),
  "beyond_mib": ("beyond", ",.0f"),
  "memory_ratio": ("less", ".1f"),
}
_Z_LOSS = 1e-4
_ROUNDS = 5
_MASKED = 0.15  # The share of positions BERT predicts.


class Shape(NamedTuple):
  """Rows of tokens against a vocabulary."""

  name: str
  rows: int
  length: int
  emb_dim: int
  vocab_size: int
  dtype: str

  @property
  def tokens(self) -> int:
    return self.rows * self.length

  @property
  def flops(self) -> float:
    """Of three products: 2 operations for each token, dimension and id."""
    return 6.0 * self.tokens * self.emb_dim * self.vocab_size

  def __str__(self) -> str:
    size = f"{self.tokens:,} tokens x {self.emb_dim:,} x {self.vocab_size:,}"
    return f"{self.name}: {size}, {self.dtype}"


BERT = Shape("BERT's head", 8, 512, 256, 30_592, "float32")
LARGE = Shape("a large vocabulary", 8, 2048, 2048, 262_144, "bfloat16")
ON_CPU = (
  Shape("T5's targets", 8, 114, 512, 8_320, "float32"),
  Shape("a usual vocabulary", 8, 512, 512, 32_768, "float32"),
  Shape("many short states", 8, 1024, 128, 32_768, "float32"),
)
ON_ACCELERATORS = (
  Shape("T5 large's targets", 128, 114, 1024, 32_128, "bfloat16"),
  Shape("M 8192, D 4096, V 131k", 4, 2048, 4096, 131_072, "bfloat16"),
  LARGE,
)


def plain(hidden, kernel, targets, weights, bias=None):
  """All logits at once, the gradient left to JAX."""
  logits = jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32)
  if bias is not None:
    logits += bias
  log_z = jax.nn.logsumexp(logits, axis=-1)
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  correct = weights * (logits.argmax(-1) == targets)
  return (weights * (log_z - chosen + _Z_LOSS * log_z**2)).sum(), correct.sum()


def lean(*inputs):
  """The kernel: gradients in the forward pass, three products."""
  sums = linear_cross_entropy(*inputs, z_loss=_Z_LOSS)
  return sums.loss_sum, sums.correct_sum


def recomputed(*inputs):
  """The kernel, made to take its gradients in the backward pass: four products."""
  sums = linear_cross_entropy(*inputs, z_loss=_Z_LOSS, return_per_token=True)
  return (inputs[3] * sums.per_token_loss).sum() + sums.z_loss_sum, sums.correct_sum


def chosen_only(hidden, kernel, targets, weights):
  """The kernel on the positions that carry loss, as masked LM does."""
  most = round(_MASKED * hidden.shape[1])
  positions, targets, weights = gather_targets(targets, weights, most)
  hidden = jnp.take_along_axis(hidden, positions[..., None], axis=1)
  return lean(hidden, kernel, targets, weights)


VARIANTS = {"plain": plain, "lean": lean, "lean, 4 products": recomputed}
LABELS = (*VARIANTS, "chosen positions")


def measure() -> Iterator[dict[str, Any]]:
  """A row per shape and variant: time and memory here, then memory on a TPU v5p."""
  on_cpu = jax.default_backend() == "cpu"
  for shape in ON_CPU if on_cpu else ON_ACCELERATORS:
    yield from _compare(shape, VARIANTS)
  yield from _compare(BERT, {"plain": plain, "lean": lean, "chosen positions": chosen_only})
  if on_cpu:
    yield from _compare(LARGE, VARIANTS, timed=False)
  mesh = _tpu_mesh()
  if mesh is not None:
    with jax.set_mesh(mesh):
      yield from _compare(LARGE, VARIANTS, mesh=mesh)


def _compare(shape, variants, timed=True, mesh=None):
  device = "TPU v5p, compiled ahead of time" if mesh else jax.devices()[0].device_kind
  group = f"{shape} ({device})"
  programs = {name: _compile(shape, loss, mesh) for name, loss in variants.items()}
  seconds = _seconds(programs, _inputs(shape)) if timed and mesh is None else {}
  first = None
  for label, program in programs.items():
    memory = program and program.memory_analysis()
    temporary = memory.temp_size_in_bytes if memory else None
    beyond = temporary and temporary - (0 if label == "plain" else _gradient_bytes(shape, label))
    row = {"group": group, "label": label, "shape": shape._asdict(), "device": device}
    row |= {"temporary_mib": _mib(temporary), "beyond_mib": _mib(beyond)}
    if seconds.get(label):
      row["milliseconds"] = 1e3 * seconds[label]
      row["teraflops"] = shape.flops / seconds[label] / 1e12
    first = first or row
    for ratio, key in (("time_ratio", "milliseconds"), ("memory_ratio", "beyond_mib")):
      if row.get(key) and first.get(key):
        row[ratio] = row[key] / first[key]
    if "memory_ratio" in row:
      row["memory_ratio"] = 1 / row["memory_ratio"]
    yield row


def _mib(size):
  return None if size is None else size / 2**20


def _gradient_bytes(shape, label):
  """Of the gradients that a scan over chunks holds among its temporary memory."""
  tokens = shape.length if label != "chosen positions" else round(_MASKED * shape.length)
  chunks = plan_chunks((shape.rows, tokens, shape.emb_dim), shape.vocab_size, shape.dtype)
  if chunks.num_chunks == 1:
    return 0
  hidden = chunks.tokens * shape.emb_dim * jnp.dtype(shape.dtype).itemsize
  return 4 * shape.emb_dim * shape.vocab_size + hidden


def _compile(shape, loss: Callable, mesh: Mesh | None):
  """The program of the loss and its gradients; None where it does not fit the device."""
  arguments = [
    ((shape.rows, shape.length, shape.emb_dim), shape.dtype),
    ((shape.emb_dim, shape.vocab_size), shape.dtype),
    ((shape.rows, shape.length), "int32"),
    ((shape.rows, shape.length), "float32"),
  ]
  sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec())

  def step(hidden, kernel, targets, weights):
    # A mean, as in training, so that the gradients are scaled once.
    scale = 1.0 / jnp.maximum(weights.sum(), 1.0)

    def mean(hidden, kernel):
      total, correct = loss(hidden, kernel, targets, weights)
      return scale * total, correct

    return jax.value_and_grad(mean, (0, 1), has_aux=True)(hidden, kernel)

  abstract = [jax.ShapeDtypeStruct(*argument, sharding=sharding) for argument in arguments]
  try:
    return jax.jit(step).lower(*abstract).compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return None


def _inputs(shape):
  rng = np.random.default_rng(0)
  hidden = rng.normal(size=(shape.rows, shape.length, shape.emb_dim)).astype(np.float32)
  kernel = rng.standard_normal((shape.emb_dim, shape.vocab_size), np.float32) / 16
  targets = rng.integers(0, shape.vocab_size, (shape.rows, shape.length)).astype(np.int32)
  weights = np.zeros((shape.rows, shape.length), np.float32)
  weights[:, : round(_MASKED * shape.length)] = 1.0
  weights = rng.permuted(weights, axis=1) if shape is BERT else np.ones_like(weights)
  dtype = jnp.dtype(shape.dtype)
  return tuple(map(jnp.asarray, (hidden.astype(dtype), kernel.astype(dtype), targets, weights)))


def _seconds(programs, inputs):
  """Median seconds of each program; they take turns, so that what else runs slows all alike."""
  taken: dict[str, list[float]] = {name: [] for name in programs}
  for turn in range(_ROUNDS + 1):
    for name, program in programs.items():
      if program is None:
        continue
      begun = time.perf_counter()
      jax.block_until_ready(program(*inputs))
      if turn:  # The first one warms up.
        taken[name].append(time.perf_counter() - begun)
  return {name: statistics.median(times) for name, times in taken.items() if times}


def _tpu_mesh() -> Mesh | None:
  """One chip of a TPU v5p to compile for; None without libtpu."""
  if jax.default_backend() == "tpu" or importlib.util.find_spec("libtpu") is None:
    if "TPU_LIBRARY_PATH" not in os.environ:
      return None
  # Without the first libtpu may wait for a metadata server; the others keep it from guessing.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5p-8")
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  topology = topologies.get_topology_desc(platform="tpu", topology_name="v5p:2x2x1")
  return Mesh(np.array(topology.devices[:1]), ("data",), axis_types=(AxisType.Auto,))
