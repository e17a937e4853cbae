"""The matrix products of a training step by themselves, in XLA and in PyTorch: a bound for CPUs.

The products are those of the step's forward and backward pass, found in its trace, where attention
holds all logits. Each runs alone, [batch, M, K] x [batch, K, N] in float32, with operands that lie
as each library likes it best. Seconds are processor time, divided by the cores, so that other
programs change them little: the median of the rounds, times how often the step has the product. A
step can take no less than all of its products; what XLA needs for them beyond PyTorch cannot be
gained back by anything that this package does.
"""

import collections
import functools
import importlib.util
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jax_core

from t5x_style.training import setup

from ..process.errors import ConfigurationError
from . import step_cases

FLAGS = ("case", "tiny")
COLUMNS = {
  "count": ("in a step", ",.0f"),
  "gigaflops": ("GFLOP", ",.1f"),
  "xla_seconds": ("XLA s", ".3f"),
  "eigen_seconds": ("Eigen s", ".3f"),
  "torch_seconds": ("PyTorch s", ".3f"),
  "xla_rate": ("GFLOP/s", ",.0f"),
  "eigen_rate": ("Eigen's", ",.0f"),
  "torch_rate": ("PyTorch's", ",.0f"),
}
_ALL = "all products"
LABELS = (_ALL, "16 x [4,096, 4,096] x [4,096, 4,096]")
_ROUNDS = 5
_LEAST_SECONDS = 0.1  # of a product, in each round
# XLA's own library for products on CPUs is chosen per program; empty: Eigen.
_EIGEN: dict[str, str | bool] = {"xla_cpu_experimental_ynn_fusion_type": ""}


class Product(NamedTuple):
  """[batch, rows, inner] x [batch, inner, columns]."""

  batch: int
  rows: int
  inner: int
  columns: int

  @property
  def flops(self) -> float:
    return 2.0 * self.batch * self.rows * self.inner * self.columns

  def __str__(self) -> str:
    times = f"{self.batch:,} x " if self.batch > 1 else ""
    left, right = f"[{self.rows:,}, {self.inner:,}]", f"[{self.inner:,}, {self.columns:,}]"
    return f"{times}{left} x {right}"


def measure(case: str | None = None, tiny: bool = False) -> Iterator[dict[str, Any]]:
  """Yields a row for each kind of product, the largest first, and their sum; see launch.benchmark.

  Raises:
    ConfigurationError: there is an accelerator, whose processor time says nothing.
  """
  if jax.default_backend() != "cpu":
    raise ConfigurationError("The benchmark products is for CPUs; set JAX_PLATFORMS=cpu.")
  cases = step_cases.tiny() if tiny else step_cases.known(alone=False)
  for each in step_cases.named(cases, case):
    yield from _measure(each)


def _measure(case: step_cases.StepCase) -> Iterator[dict[str, Any]]:
  found = of_step(step_cases.prepare(step_cases.with_attention(case, "xla")))
  group = f"{case.title}: its products (jax {jax.__version__})"
  sums: dict[str, float] = collections.defaultdict(float)
  for product, count in sorted(found.items(), key=lambda item: -item[0].flops * item[1]):
    row = {"count": count, "gigaflops": count * product.flops / 1e9}
    row |= {f"{name}_seconds": count * taken for name, taken in _seconds(product).items()}
    for name, value in row.items():
      sums[name] += value
    yield {"group": group, "label": str(product), "case": case.name} | _with_rates(row)
  yield {"group": group, "label": _ALL, "case": case.name} | _with_rates(dict(sums))


def _with_rates(row: dict[str, float]) -> dict[str, float]:
  rates = {
    name.replace("_seconds", "_rate"): row["gigaflops"] / taken
    for name, taken in row.items()
    if name.endswith("_seconds")
  }
  return row | rates


def of_step(prepared: setup.Prepared) -> dict[Product, int]:
  """Returns {product: how often a step has it}, of the loss and its gradient."""

  def gradient(params, batch):
    return jax.grad(lambda x: prepared.loss(x, batch, prepared.loss.scales(batch))[0])(params)

  found: dict[Product, int] = collections.Counter()
  _collect(jax.make_jaxpr(gradient)(prepared.abstract.params, prepared.batch).jaxpr, 1, found)
  return dict(found)


def _collect(jaxpr: Any, times: int, found: dict[Product, int]) -> None:
  """Adds the products of a jaxpr, and of those within it, to `found`."""
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      found[_product(equation)] += times
    turns = equation.params["length"] if equation.primitive.name == "scan" else 1
    for value in jax.tree.leaves(
      list(equation.params.values()),
      is_leaf=lambda x: isinstance(x, jax_core.Jaxpr | jax_core.ClosedJaxpr),
    ):
      if isinstance(value, jax_core.ClosedJaxpr):
        _collect(value.jaxpr, times * turns, found)
      elif isinstance(value, jax_core.Jaxpr):
        _collect(value, times * turns, found)


def _product(equation: Any) -> Product:
  left, right = (variable.aval.shape for variable in equation.invars)
  (by_left, _), (batch_left, _) = equation.params["dimension_numbers"]
  batch = int(np.prod([left[i] for i in batch_left]))
  inner = int(np.prod([left[i] for i in by_left]))
  sizes = [int(np.prod(shape)) // (batch * inner) for shape in (left, right)]
  return Product(batch, max(sizes), inner, min(sizes))


def _run(program: jax.stages.Compiled, operands: Sequence[jax.Array]) -> None:
  jax.block_until_ready(program(*operands))


def _seconds(product: Product) -> dict[str, float]:
  """Returns {library: seconds of processor time over the cores}, the median of the rounds."""
  B, M, K, N = product
  draw = np.random.default_rng(0)
  left, right = (draw.standard_normal(size, np.float32) for size in ((B, M, K), (B, K, N)))
  own = jnp.asarray(left), jnp.asarray(right)
  lowered = jax.jit(jnp.matmul).lower(*own)
  ways: dict[str, Callable[[], Any]] = {}
  for name, options in (("xla", None), ("eigen", _EIGEN)):
    ways[name] = functools.partial(_run, lowered.compile(options), own)
  if importlib.util.find_spec("torch"):
    # A thread of PyTorch that waits for the others would count as busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    theirs = torch.from_numpy(left), torch.from_numpy(right)
    ways["torch"] = lambda: torch.matmul(*theirs)
  calls = {name: _calls(run) for name, run in ways.items()}
  taken: dict[str, list[float]] = {name: [] for name in ways}
  for turn in range(_ROUNDS):
    for name, run in list(ways.items())[:: 1 if turn % 2 else -1]:
      begun = time.process_time()
      for _ in range(calls[name]):
        run()
      each = (time.process_time() - begun) / calls[name]
      taken[name].append(each / (os.cpu_count() or 1))
  return {name: statistics.median(each) for name, each in taken.items()}


def _calls(run: Callable[[], Any]) -> int:
  """Returns how many calls take long enough for the clock, at most 1,000.

  The system adds the time of threads that still run in steps of milliseconds only.
  """
  run()  # The first call warms up.
  begun = time.perf_counter()
  run()
  return min(1_000, math.ceil(_LEAST_SECONDS / (time.perf_counter() - begun)))
