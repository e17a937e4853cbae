"""TPU slices and GPU nodes to compile for on a machine that has none of them.

The compilers are the packages libtpu, for TPUs, and JAX's CUDA plugin (absent_gpus.py).
"""

import dataclasses
import importlib.metadata
import importlib.util
import math
import os
import re
import warnings

import jax
from jax.experimental import topologies

from t5x_style.errors import UserError
from t5x_style.hardware import GPU_CHIPS, GPU_NODE, TPU_CHIPS, TPU_HOST, GpuChip, TpuChip
from t5x_style.planning import absent_gpus

# libtpu lets only one process at a time use a TPU, and fails if another one has its lock file.
# Compiling uses no TPU, so any number of processes may do it at the same time.
_NO_LOCK = "ALLOW_MULTIPLE_LIBTPU_LOAD"
# Without the first libtpu may wait for a metadata server, which the others replace.
_ENVIRONMENT = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v5p-8",
  "TPU_WORKER_HOSTNAMES": "localhost",
}
_TPU_EXAMPLES = [f"{chip.name}:{chip.example}" for chip in TPU_CHIPS.values()]
_GPU_EXAMPLES = "h100:8 (a node of 8 GPUs), h100:4x8 (four such nodes)"
EXAMPLES = f"{', '.join(_TPU_EXAMPLES)}, or {_GPU_EXAMPLES}"


@dataclasses.dataclass(frozen=True)
class Topology:
  """TPU slices, or GPU nodes.

  Attributes:
    chip: TpuChip or GpuChip.
    shape: chips along each axis of a slice, or (GPUs of a node,).
    slices: number of them; the data centre's network connects them.
  """

  chip: TpuChip | GpuChip
  shape: tuple[int, ...]
  slices: int = 1

  @property
  def chips(self) -> int:
    return math.prod(self.shape) * self.slices

  @property
  def platform(self) -> str:
    """JAX's name of the platform: "tpu" or "gpu"."""
    return "tpu" if isinstance(self.chip, TpuChip) else "gpu"

  @property
  def name(self) -> str:
    """The name of one slice as libtpu spells it, "v5p:4x4x8"; that of all nodes, "h100:4x8"."""
    nodes = (self.slices,) if self.platform == "gpu" and self.slices > 1 else ()
    return f"{self.chip.name}:{'x'.join(map(str, (*nodes, *self.shape)))}"

  def __str__(self) -> str:
    if self.platform == "gpu":
      nodes = "a node" if self.slices == 1 else f"{self.slices} nodes"
      return f"{nodes} of {self.shape[0]} {self.chip.name.upper()}"
    return self.name if self.slices == 1 else f"{self.slices} slices of {self.name}"

  def wraps(self, axis: int) -> bool:
    """Returns whether the links along an axis of a torus close to a ring."""
    assert isinstance(self.chip, TpuChip)
    lengths = self.shape if self.chip.dimensions == 3 else self.shape[axis : axis + 1]
    return all(length % self.chip.wraps_at == 0 for length in lengths)


def parse(text: str, slices: int = 1) -> Topology:
  """Returns the topology of a text such as "v5p:4x4x8", "h100:8" or "h100:4x8" (nodes x GPUs).

  Args:
    slices: number of TPU slices.

  Raises:
    UserError: there is no such generation or shape; the message has examples.
  """
  found = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", text.strip().lower())
  if not found or found[1] not in {**TPU_CHIPS, **GPU_CHIPS}:
    problem = "is no topology" if not found else f"names {found[1]!r}, which is not known here"
    raise UserError(
      f"The topology {text!r} {problem}: write the generation "
      f"({', '.join({**TPU_CHIPS, **GPU_CHIPS})}) and the chips along each axis, or the nodes and "
      f"the GPUs of one, such as {EXAMPLES}."
    )
  shape = tuple(map(int, found[2].split("x")))
  if found[1] in GPU_CHIPS:
    return _nodes(text, GPU_CHIPS[found[1]], shape, slices)
  chip = TPU_CHIPS[found[1]]
  if len(shape) != chip.dimensions:
    raise UserError(
      f"The topology {text!r} has {len(shape)} axes, a {chip.name} has {chip.dimensions}: "
      f"{chip.slices}."
    )
  by_hosts = shape == (1, 1) or all(n % host == 0 for n, host in zip(shape, TPU_HOST, strict=False))
  if not by_hosts or any(not 1 <= length <= chip.largest for length in shape):
    raise UserError(
      f"There is no {chip.name} slice of {found[2]}: its hosts hold {'x'.join(map(str, TPU_HOST))} "
      f"chips, and an axis at most {chip.largest}. There are {chip.slices} and more."
    )
  if slices < 1:
    raise UserError(f"slices = {slices}: there is at least one.")
  return Topology(chip, shape, slices)


def _nodes(text: str, chip: GpuChip, shape: tuple[int, ...], slices: int) -> Topology:
  """Returns the topology of (GPUs of a node,) or (nodes, GPUs of a node); raises as parse."""
  nodes, gpus = (1, *shape) if len(shape) == 1 else shape[:2]
  if slices != 1:
    raise UserError(
      f"--slices is for TPUs: write {text!r} with the nodes in front, such as {_GPU_EXAMPLES}."
    )
  if len(shape) > 2 or not 1 <= gpus <= GPU_NODE or nodes < 1:
    raise UserError(
      f"There is no topology {text!r}: a node has 1 to {GPU_NODE} GPUs; write the GPUs of one "
      f"node, or the nodes and the GPUs of each, such as {_GPU_EXAMPLES}."
    )
  return Topology(chip, (gpus,), nodes)


def available() -> bool:
  """Returns whether this machine can compile for absent TPUs: it has libtpu and no TPU."""
  return jax.default_backend() != "tpu" and importlib.util.find_spec("libtpu") is not None


def version_mismatch() -> str | None:
  """Returns what to install if libtpu is not the version that JAX was released with, else None."""
  required = " ".join(importlib.metadata.requires("jax") or ())
  wanted = re.search(r"\blibtpu *== *([\d.]+?)(?:\.\*)?\s*;", required)
  try:
    installed = importlib.metadata.version("libtpu")
  except importlib.metadata.PackageNotFoundError:
    return None  # A build of another name.
  if not wanted or f"{installed}.".startswith(f"{wanted[1]}."):
    return None
  return (
    f"libtpu is {installed}, but JAX {jax.__version__} was released with {wanted[1]}, and one may "
    f"not read what the other writes: pip install 'libtpu=={wanted[1]}.*'"
  )


def devices(topology: Topology | str) -> list[jax.Device]:
  """Returns the devices of a topology, to compile for; nothing can run on them.

  Args:
    topology: a Topology, or a text such as "v5e:4x4".

  Raises:
    UserError: the compiler is not installed, or does not know the topology.
  """
  topology = parse(topology) if isinstance(topology, str) else topology
  if isinstance(topology.chip, GpuChip):
    return absent_gpus.devices(topology.chip, topology.slices, topology.shape[0])
  if importlib.util.find_spec("libtpu") is None:
    raise UserError(
      "Compiling for TPUs takes their compiler, the package libtpu: pip install 'jax[tpu]' (or "
      "this package with its extra: pip install '.[tpu]'). It needs no TPU."
    )
  if mismatch := version_mismatch():
    warnings.warn(f"{mismatch}.", stacklevel=2)
  os.environ[_NO_LOCK] = "1"
  for name, value in _ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  try:
    description = topologies.get_topology_desc(
      platform="tpu", topology_name=topology.name, **_options(topology)
    )
  except jax.errors.JaxRuntimeError as error:
    raise _explained(error, topology, mismatch) from error
  return list(description.devices)


def _options(topology: Topology) -> dict[str, object]:
  """Returns the options of libtpu for a topology."""
  assert isinstance(topology.chip, TpuChip)
  options: dict[str, object] = {}
  if topology.chip.megacore:
    options["chip_config_name"] = "megacore"
  if topology.shape == (1, 1):
    options["chips_per_host_bounds"] = (1, 1, 1)
  if topology.slices > 1:
    options["num_slices"] = topology.slices
  return options


def _explained(error: Exception, topology: Topology, mismatch: str | None) -> UserError:
  """Returns the error of libtpu in words that say what to do about it."""
  first_line = str(error).splitlines()[0]
  if mismatch:
    return UserError(f"{first_line}\n{mismatch}")  # What to do comes last, where it is read.
  if "lockfile" in str(error):
    return UserError(
      f"libtpu was loaded in this process before {_NO_LOCK}=1 was set, and another process has "
      f"its lock file: set {_NO_LOCK}=1 in the environment of this one."
    )
  return UserError(
    f"libtpu does not know the topology {topology}: {first_line} Examples are {EXAMPLES}."
  )
