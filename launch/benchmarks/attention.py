"""Attention, forward and backward, with every kernel that the device has: time and memory.

Kernels run in turns for several rounds: ms is the median, "of plain" the median of each round's
ratio. Plain is textbook attention, with JAX's own gradient. TFLOP/s counts six products of queries
and keys, half of them if attention is causal, whatever a kernel does. Temporary memory is what the
compiled program needs beyond its arguments and outputs. If libtpu is installed, the memory on a TPU
v5e follows, from programs that are compiled ahead of time.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from t5x_style.errors import first_line
from t5x_style.models.attention import attend
from t5x_style.models.attention_kernels.pattern import AttentionSpec, KernelChoice, Pattern
from t5x_style.models.attention_kernels.select import (
  BIAS_BY_DISTANCE,
  KERNELS,
  attention_inputs,
  reason_against,
)
from t5x_style.partitioning import make_mesh
from t5x_style.planning import topologies

from . import compiled_programs, step_cases

COLUMNS = {
  "milliseconds": ("ms", ",.1f"),
  "teraflops": ("TFLOP/s", ".3f"),
  "time_ratio": ("of plain", ".2f"),
  "temporary_mib": ("temp MiB", ",.0f"),
  "error": ("error", ""),
}
LABELS = ("plain", *KERNELS)
FLAGS = ("tiny",)
FLOP_FORMULA = "12 x rows x heads x length^2 x width: six products, half of them if causal"
_DOCUMENTS = 4  # in a packed row
_REACH = 128  # of T5's bias: keys that are further away have the same


class Shape(NamedTuple):
  """Self-attention of rows of one length."""

  name: str
  rows: int
  length: int
  heads: int
  key_heads: int
  width: int
  dtype: str
  causal: bool = False
  packed: bool = False
  bias: bool = False
  window: int | None = None

  @property
  def flops(self) -> float:
    products = 12.0 * self.rows * self.heads * self.length**2 * self.width
    return products / 2 if self.causal else products

  def array_sizes(self) -> tuple[Any, ...]:
    """Returns the shapes of query, key, value, the output's cotangent, the bias and its table.

    The table is the bias by distance, for kernels that take it so.
    """
    B, L, N, K, H = self.rows, self.length, self.heads, self.key_heads, self.width
    arrays = (B, L, N, H), (B, L, K, H), (B, L, K, H), (B, L, N, H)
    return *arrays, (1, N, L, L), (N, 2 * _REACH + 1)

  def __str__(self) -> str:
    marks = [word for word in ("causal", "packed", "bias") if getattr(self, word)]
    marks += [f"window {self.window}"] if self.window else []
    size = f"{self.rows} x {self.length:,}, {self.heads} heads of {self.width}"
    keys = f" on {self.key_heads}" if self.key_heads != self.heads else ""
    return f"{self.name}: {', '.join([size + keys, self.dtype, *marks])}"


ON_CPU = (
  Shape("T5's encoder", 8, 512, 8, 8, 64, "float32", bias=True),
  Shape("a packed decoder", 8, 512, 8, 8, 64, "float32", causal=True, packed=True),
  Shape("grouped queries", 8, 512, 8, 2, 64, "float32", causal=True),
  Shape("more rows", 16, 512, 8, 8, 64, "float32", bias=True),
  Shape("long rows", 2, 2048, 8, 8, 64, "float32"),
)


TINY = Shape("tiny", 2, 32, 4, 4, 8, "float32", causal=True, packed=True, bias=True)


def on_accelerators() -> tuple[Shape, ...]:
  """Returns the shapes to measure on GPUs and TPUs."""
  t5 = step_cases.shipped_model("t5_1_1/large")
  heads = (t5.num_heads, t5.kv_heads, t5.head_dim)
  return (
    Shape("T5 1.1 large's encoder", 16, 512, *heads, "bfloat16", bias=True),
    Shape("the same, packed", 16, 512, *heads, "bfloat16", packed=True, bias=True),
    Shape("a decoder", 4, 2048, 16, 16, 128, "bfloat16", causal=True),
    Shape("a packed decoder", 4, 2048, 16, 16, 128, "bfloat16", causal=True, packed=True),
    Shape("grouped queries", 1, 8192, 32, 8, 128, "bfloat16", causal=True),
    Shape("a window", 1, 8192, 8, 4, 256, "bfloat16", causal=True, window=1024),
  )


def long_rows_of_t5() -> Shape:
  """Returns a shape for TPUs only: elsewhere all of the logits are held."""
  t5 = step_cases.shipped_model("t5_1_1/large")
  heads = (t5.num_heads, t5.kv_heads, t5.head_dim)
  return Shape("T5 1.1 large's encoder, long rows", 1, 8192, *heads, "bfloat16", bias=True)


def plain(query, key, value, pattern, bias, scale):
  """Textbook attention: all weights at once, in the layout of the arrays."""
  key, value = (jnp.repeat(x, query.shape[2] // x.shape[2], axis=2) for x in (key, value))
  logits = scale * jnp.einsum("blnh,bsnh->bnls", query, key, preferred_element_type=jnp.float32)
  if bias is not None:
    logits += bias
  mask = pattern.mask(query.shape[1], key.shape[1])
  if mask is not None:
    logits = jnp.where(mask, logits, -1e10)
  weights = jax.nn.softmax(logits).astype(value.dtype)
  return jnp.einsum("bnls,bsnh->blnh", weights, value)


def by_kernel(name: str) -> Callable[..., jax.Array]:
  def run(query, key, value, pattern, bias, scale):
    inputs = attention_inputs(pattern, query.shape[1], key.shape[1], bias, KernelChoice(name))
    return attend(query, key, value, inputs, scale=scale)

  return run


def measure(tiny: bool = False) -> Iterator[dict[str, Any]]:
  """Yields a row per shape and kernel: time and memory here, then memory on a TPU with libtpu."""
  own_shapes = ON_CPU if jax.default_backend() == "cpu" else on_accelerators()
  for shape in [TINY] if tiny else own_shapes:
    programs = {name: _or_error(each) for name, each in _programs(shape, None).items()}
    fitting = {name: each for name, each in programs.items() if not isinstance(each, str)}
    seconds = compiled_programs.seconds_in_turns(fitting, _inputs(shape))
    yield from _report(shape, jax.devices()[0].device_kind, programs, seconds)
  if topologies.available() and not tiny:
    device = topologies.devices("v5e:2x2")[0]
    for shape in (*on_accelerators(), long_rows_of_t5()):
      ahead = {
        name: compiled_programs.compile_or_none(each)
        for name, each in _programs(shape, device).items()
      }
      yield from _report(shape, "TPU v5e, compiled ahead of time", ahead, {})


def _or_error(make: Callable[[], jax.stages.Compiled]) -> jax.stages.Compiled | str:
  """Returns the program, or why there is none: one kernel that fails stops no other."""
  try:
    return make()
  except Exception as error:
    return f"{type(error).__name__}: {first_line(error)}"


def _report(shape, device, programs, seconds):
  for label, program in programs.items():
    row = {"group": f"{shape} ({device})", "label": label, "shape": shape._asdict()}
    row |= {"device": device, "precision": shape.dtype, "flop_formula": FLOP_FORMULA}
    if isinstance(program, str):
      yield row | {"error": program}
      continue
    temporary = compiled_programs.temporary_bytes(program)
    row["temporary_mib"] = temporary and temporary / 2**20
    yield row | compiled_programs.timing_columns(seconds, label, shape.flops)


def _programs(
  shape: Shape, device: jax.Device | None
) -> dict[str, Callable[[], jax.stages.Compiled]]:
  """Returns {name: what compiles the program of the output and all gradients}.

  Args:
    device: to compile for; None is this machine's.
  """
  mesh = make_mesh({}, [device or jax.devices()[0]])
  sharding = NamedSharding(mesh, PartitionSpec())
  sizes = shape.array_sizes()
  arrays = [jax.ShapeDtypeStruct(size, shape.dtype, sharding=sharding) for size in sizes]
  segments = jax.ShapeDtypeStruct((shape.rows, shape.length), jnp.int32, sharding=sharding)

  def program(attention, by_distance=False):
    def run(query, key, value, cotangent, bias, table, segments):
      ids = segments if shape.packed else None
      pattern = Pattern(ids, ids, causal=shape.causal, window=shape.window)

      def output(query, key, value, bias):
        return attention(query, key, value, pattern, bias, shape.width**-0.5)

      if by_distance:
        bias = table.astype(jnp.float32)
      out, pull = jax.vjp(output, query, key, value, bias if shape.bias else None)
      return out, pull(cotangent)

    def compiled():
      with jax.set_mesh(mesh):
        return jax.jit(run).lower(*arrays, segments).compile()

    return compiled

  pattern = Pattern(segments if shape.packed else None, causal=shape.causal, window=shape.window)
  spec = AttentionSpec(sizes[0], sizes[1], shape.dtype, pattern, shape.bias)
  with jax.set_mesh(mesh):
    able = [name for name in KERNELS if reason_against(name, spec) is None]
    return {"plain": program(plain)} | {
      name: program(by_kernel(name), name in BIAS_BY_DISTANCE) for name in able
    }


def _inputs(shape: Shape) -> tuple[jax.Array, ...]:
  """Returns random arrays of array_sizes, and the segment ids of rows with several documents."""
  rng = np.random.default_rng(0)
  arrays = [
    jnp.asarray(rng.standard_normal(size, np.float32), shape.dtype) for size in shape.array_sizes()
  ]
  segments = 1 + np.arange(shape.length, dtype=np.int32) * _DOCUMENTS // shape.length
  return *arrays, jnp.asarray(np.tile(segments, (shape.rows, 1)))
