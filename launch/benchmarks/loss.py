"""The output projection and its loss, forward and backward: time and memory, plain and lean.

Plain computes all logits at once; lean is the loss kernel of this package. Variants run in turns
for several rounds: ms is the median, and "of plain" the median of each round's ratio, as other
programs on the machine change the time of a round. TFLOP/s counts three products with the
vocabulary, whatever a variant does (chosen positions: those of all positions).

Temporary memory is what the compiled program needs beyond its arguments and outputs. "w/o grads" is
this without the gradients in it (of the kernel, summed over chunks, and of the hidden states),
which are outputs of the plain program. It is 0 if the chunks use the memory of outputs that are
written last. "less" is plain's "w/o grads" over the variant's; for a training step, plain's
temporary memory over the variant's.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from t5x_style.losses import LossSums, gather_targets, linear_cross_entropy, plan_chunks
from t5x_style.partitioning import make_mesh
from t5x_style.planning import topologies

from . import compiled_programs, step_cases, step_memory

COLUMNS = {
  "milliseconds": ("ms", ",.1f"),
  "teraflops": ("TFLOP/s", ".3f"),
  "time_ratio": ("of plain", ".2f"),
  "temporary_mib": ("temp MiB", ",.0f"),
  "beyond_mib": ("w/o grads", ",.0f"),
  "memory_ratio": ("less", ".1f"),
}
FLAGS = ("tiny",)
FLOP_FORMULA = "6 x tokens x D x V: three products with the vocabulary, whatever a variant does"
_Z_LOSS = 1e-4
_MASKED = 0.15  # The share of positions that BERT predicts.


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
    """FLOPs of three products: 2 for each token, dimension and id."""
    return 6.0 * self.tokens * self.emb_dim * self.vocab_size

  def __str__(self) -> str:
    size = f"{self.tokens:,} tokens x {self.emb_dim:,} x {self.vocab_size:,}"
    return f"{self.name}: {size}, {self.dtype}"


USUAL = Shape("a usual vocabulary", 4, 512, 512, 32_768, "float32")
BERT = Shape("BERT's head", 4, 512, 256, 30_592, "float32")
LARGE = Shape("a large vocabulary", 8, 2048, 2048, 262_144, "bfloat16")
TINY = Shape("tiny", 2, 16, 32, 96, "float32")
ON_CPU = (
  Shape("T5's targets", 8, 114, 512, 8_320, "float32"),
  USUAL,
  Shape("narrow states", 4, 1024, 128, 32_768, "float32"),
)


def on_accelerators() -> tuple[Shape, ...]:
  """Returns the shapes to measure on GPUs and TPUs."""
  t5 = step_cases.shipped_model("t5/large")
  return (
    Shape("T5 large's targets", 128, 114, t5.emb_dim, t5.vocab_size, "bfloat16"),
    Shape("M 8192, D 4096, V 131k", 4, 2048, 4096, 131_072, "bfloat16"),
    LARGE,
  )


Loss = Callable[..., tuple[jax.Array, jax.Array]]  # (loss_sum, correct_sum)


def plain_cross_entropy(
  hidden, kernel, targets, weights, *, bias=None, z_loss=0.0, **_: Any
) -> LossSums:
  """All logits at once, with JAX's own gradient; without smoothing, cap and losses per token."""
  kernel = kernel.astype(hidden.dtype)
  logits = jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32)
  if bias is not None:
    logits += bias
  log_z = jax.nn.logsumexp(logits, axis=-1)
  chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  z_loss_sum = (weights * z_loss * log_z**2).sum()
  loss_sum = (weights * (log_z - chosen)).sum() + z_loss_sum
  correct_sum = (weights * (logits.argmax(-1) == targets)).sum()
  return LossSums(loss_sum, z_loss_sum, weights.sum(), correct_sum)


def plain(*inputs):
  sums = plain_cross_entropy(*inputs, z_loss=_Z_LOSS)
  return sums.loss_sum, sums.correct_sum


def plain_log_softmax(hidden, kernel, targets, weights):
  """All log-probabilities, as in a textbook."""
  logits = jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32)
  log_probs = jax.nn.log_softmax(logits)
  chosen = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
  return -(weights * chosen).sum(), (weights * (logits.argmax(-1) == targets)).sum()


def plain_rounded(hidden, kernel, targets, weights):
  """As in T5X: logits rounded to the dtype of the products, one-hot targets."""
  logits = jnp.matmul(hidden, kernel).astype(jnp.float32)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  hot = jax.nn.one_hot(targets, logits.shape[-1])
  losses = -(hot * (logits - log_z[..., None])).sum(-1) + _Z_LOSS * log_z**2
  return (weights * losses).sum(), (weights * (logits.argmax(-1) == targets)).sum()


def lean(*inputs):
  """The loss kernel: it computes gradients in the forward pass, with three products."""
  sums = linear_cross_entropy(*inputs, z_loss=_Z_LOSS)
  return sums.loss_sum, sums.correct_sum


def recomputed(*inputs):
  """The loss kernel, forced to compute gradients in the backward pass: four products."""
  sums = linear_cross_entropy(*inputs, z_loss=_Z_LOSS, return_per_token=True)
  assert sums.per_token is not None
  return (inputs[3] * sums.per_token.loss).sum() + sums.z_loss_sum, sums.correct_sum


def chosen_only(hidden, kernel, targets, weights):
  """The loss kernel on the positions with loss only, as for masked LM."""
  most = _most_chosen(hidden.shape[1])
  positions, (targets, weights) = gather_targets((targets, weights), weights, most)
  hidden = jnp.take_along_axis(hidden, positions[..., None], axis=1)
  return lean(hidden, kernel, targets, weights)


def lean_in_chunks(tokens: int) -> Loss:
  def loss(*inputs):
    sums = linear_cross_entropy(*inputs, z_loss=_Z_LOSS, chunk_size=tokens)
    return sums.loss_sum, sums.correct_sum

  return loss


_CHOSEN = "chosen positions"
_CHUNK_SIZES = {f"lean, chunks of {n:,}": n for n in (64, 256, 1024, 2048)}
VARIANTS: dict[str, Loss] = {"plain": plain, "lean": lean, "lean, 4 products": recomputed}
# Other ways to write the plain loss, which show what the comparison depends on.
PLAINS: dict[str, Loss] = {
  "plain, log_softmax": plain_log_softmax,
  "plain, rounded logits": plain_rounded,
}
MASKED: dict[str, Loss] = {"plain": plain, "lean": lean, _CHOSEN: chosen_only}
CHUNKED = {label: lean_in_chunks(size) for label, size in _CHUNK_SIZES.items()}
LABELS = (*VARIANTS, *PLAINS, *CHUNKED, _CHOSEN)


def measure(tiny: bool = False) -> Iterator[dict[str, Any]]:
  """Yields a row per shape and variant: time and memory here, then memory on TPUs with libtpu."""
  on_cpu = jax.default_backend() == "cpu"
  if tiny:
    yield from _compare(TINY, VARIANTS)
    return
  for shape in ON_CPU if on_cpu else on_accelerators():
    yield from _compare(shape, VARIANTS)
  yield from _compare(USUAL._replace(name="sizes of chunks"), {"plain": plain} | CHUNKED)
  yield from _compare(BERT, MASKED)
  if on_cpu:
    yield from _compare(LARGE, VARIANTS, timed=False)
  if topologies.available():
    mesh = make_mesh({}, topologies.devices("v5p:2x2x1")[:1])
    with jax.set_mesh(mesh):
      yield from _compare(LARGE, VARIANTS | PLAINS, mesh=mesh)
    yield from _training_step()


def _compare(shape, variants, timed=True, mesh=None):
  """Yields a row per variant; with a mesh only compiled for its devices, otherwise timed here."""
  device = "TPU v5p, compiled ahead of time" if mesh else jax.devices()[0].device_kind
  lowered = {name: _lower(shape, loss, mesh) for name, loss in variants.items()}
  programs = {
    name: compiled_programs.compile_or_none(each.compile) for name, each in lowered.items()
  }
  fitting = {name: program for name, program in programs.items() if program is not None}
  seconds: dict[str, list[float]] = {}
  if timed and mesh is None:
    seconds = compiled_programs.seconds_in_turns(fitting, _inputs(shape))
  reference = None
  for label, program in programs.items():
    row = {"group": f"{shape} ({device})", "label": label, "shape": shape._asdict()}
    row |= {"device": device, "precision": shape.dtype, "flop_formula": FLOP_FORMULA}
    row |= {"temporary_mib": None, "beyond_mib": None}
    temporary = compiled_programs.temporary_bytes(program)
    if temporary is not None:
      within = 0 if label.startswith("plain") else _gradient_bytes(shape, label)
      beyond = max(temporary - within, 0)
      row |= {"temporary_mib": temporary / 2**20, "beyond_mib": beyond / 2**20}
    row |= compiled_programs.timing_columns(seconds, label, shape.flops)
    reference = reference or row["beyond_mib"]
    row["memory_ratio"] = _ratio(reference, row["beyond_mib"])
    yield row


def _training_step():
  """Yields rows for plain and lean in the training step of a 1B model, where plain fits."""
  losses = {"plain": plain_cross_entropy, "lean": linear_cross_entropy}
  reference = None
  for row in step_memory.measure("v5e:4x4", {"fsdp": 16}, 2, losses, _Z_LOSS):
    size = row.pop("temporary_bytes")
    row["temporary_mib"] = size and size / 2**20
    reference = reference or row["temporary_mib"]
    yield row | {"memory_ratio": _ratio(reference, row["temporary_mib"])}


def _ratio(reference, value):
  return reference / value if reference and value else None


def _gradient_bytes(shape, label):
  """Returns the bytes of gradients in the temporary memory of a scan over chunks."""
  length = _most_chosen(shape.length) if label == _CHOSEN else shape.length
  hidden_shape = (shape.rows, length, shape.emb_dim)
  chunks = plan_chunks(hidden_shape, shape.vocab_size, shape.dtype, _CHUNK_SIZES.get(label))
  if chunks.num_chunks == 1:
    return 0
  hidden = chunks.tokens * shape.emb_dim * jnp.dtype(shape.dtype).itemsize
  return 4 * shape.emb_dim * shape.vocab_size + hidden


def _lower(shape, loss: Loss, mesh: Mesh | None):
  """Returns the lowered program of the loss and its gradients by hidden and kernel."""
  tokens = (shape.rows, shape.length)
  arguments = [
    ((*tokens, shape.emb_dim), shape.dtype),
    ((shape.emb_dim, shape.vocab_size), shape.dtype),
    (tokens, "int32"),
    (tokens, "float32"),
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
  return jax.jit(step).lower(*abstract)


def _inputs(shape):
  rng = np.random.default_rng(0)
  tokens = (shape.rows, shape.length)
  hidden = rng.standard_normal((*tokens, shape.emb_dim), np.float32)
  kernel = rng.standard_normal((shape.emb_dim, shape.vocab_size), np.float32) / 16
  targets = rng.integers(0, shape.vocab_size, tokens).astype(np.int32)
  weights = np.ones(tokens, np.float32)
  if shape is BERT:
    weights[:, _most_chosen(shape.length) :] = 0.0
    weights = rng.permuted(weights, axis=1)
  dtype = jnp.dtype(shape.dtype)
  return tuple(map(jnp.asarray, (hidden.astype(dtype), kernel.astype(dtype), targets, weights)))


def _most_chosen(length):
  return round(_MASKED * length)
