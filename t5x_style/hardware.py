"""Published facts of accelerators: the one table of FLOP/s, memory, bandwidths and links.

Sources: Google's Cloud TPU system architecture pages (v4, v5e, v5p, v6e) for FLOP/s, memory and its
bandwidth; "How to Scale Your Model" (Austin et al. 2025), part 2, for the links between chips and
the network between slices. NVIDIA's data sheets of the A100, H100, H200 and B200 for FLOP/s, memory
and NVLink, of the DGX A100, H100, H200 and B200 for the network cards of a node, and the CUDA C++
Programming Guide, "Technical Specifications per Compute Capability", for the multiprocessors.
"""

import dataclasses
import math
import os
from collections.abc import Mapping

import jax

from t5x_style.errors import UserError

GIB = 2**30
TPU_HOST = (2, 2)  # chips of a host along the first two axes of a slice
TPU_LANES = 128  # numbers side by side in a TPU's vector unit
TPU_VECTOR_MEMORY = 16 * 2**20  # bytes that a program may use of a TPU's on-chip vector memory
_SLICES = {  # usual shapes of slices, by the dimensions of the torus
  2: "1x1, 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16",
  3: "2x2x1, 2x2x4, 4x4x4, 4x4x8, 8x8x8",
}


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """One device as JAX counts devices.

  Attributes:
    kinds: what the device_kind of such a jax.Device begins with.
    peak_flops: FLOP/s of dense matrix products in bfloat16.
    hbm_bandwidth: bytes per second between the device and its high-bandwidth memory.
    memory_bytes: published size of that memory; None where the device reports it itself.
  """

  kinds: tuple[str, ...]
  peak_flops: float
  hbm_bandwidth: float
  memory_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class TpuChip(Accelerator):
  """A chip of one generation of TPUs, with its place in a slice.

  `memory_bytes` is what the documentation promises; default meshes are chosen by it. What a program
  may really use ends elsewhere, by up to 2 GiB: `usable_hbm_bytes` is the limit that the compiler
  (libtpu) reports, by which a compiled step is judged.

  Attributes:
    name: the generation, as in "v5e:4x4".
    dimensions: of the torus.
    example: the shape of one slice, for messages.
    largest: the most chips along an axis of a slice.
    usable_hbm_bytes: what the compiler lets a program use of the high-bandwidth memory.
    link_bandwidth: bytes per second each way over one link between chips (ICI); two links per axis.
    dcn_bandwidth: bytes per second of a chip's share in its host's network card, to other slices.
    wraps_at: an axis closes to a ring where its length is a multiple of this.
    megacore: whether the two cores of a chip act as one device.
  """

  name: str = dataclasses.field(kw_only=True)
  dimensions: int = dataclasses.field(kw_only=True)
  example: str = dataclasses.field(kw_only=True)
  largest: int = dataclasses.field(kw_only=True)
  usable_hbm_bytes: int = dataclasses.field(kw_only=True)
  link_bandwidth: float = dataclasses.field(kw_only=True)
  dcn_bandwidth: float = dataclasses.field(kw_only=True)
  wraps_at: int = dataclasses.field(kw_only=True)
  megacore: bool = dataclasses.field(kw_only=True)

  @property
  def slices(self) -> str:
    """The usual shapes of slices, for messages."""
    return _SLICES[self.dimensions]


TPU_CHIPS = {
  chip.name: chip
  for chip in (
    TpuChip(
      kinds=("TPU v4",),
      peak_flops=275e12,
      hbm_bandwidth=1.2e12,
      memory_bytes=32 * GIB,
      name="v4",
      dimensions=3,
      example="2x2x4",
      largest=16,
      usable_hbm_bytes=int(30.75 * GIB),
      link_bandwidth=4.5e10,
      dcn_bandwidth=3.125e9,
      wraps_at=4,
      megacore=True,
    ),
    TpuChip(
      kinds=("TPU v5 lite", "TPU v5e"),
      peak_flops=197e12,
      hbm_bandwidth=8.2e11,
      memory_bytes=16 * GIB,
      name="v5e",
      dimensions=2,
      example="4x4",
      largest=16,
      usable_hbm_bytes=int(15.75 * GIB),
      link_bandwidth=4.5e10,
      dcn_bandwidth=3.125e9,
      wraps_at=16,
      megacore=False,
    ),
    TpuChip(
      kinds=("TPU v5", "TPU v5p"),
      peak_flops=459e12,
      hbm_bandwidth=2.77e12,
      memory_bytes=95 * GIB,
      name="v5p",
      dimensions=3,
      example="4x4x8",
      largest=28,
      usable_hbm_bytes=int(95.73 * GIB),
      link_bandwidth=9e10,
      dcn_bandwidth=6.25e9,
      wraps_at=4,
      megacore=True,
    ),
    TpuChip(
      kinds=("TPU v6 lite", "TPU v6e"),
      peak_flops=918e12,
      hbm_bandwidth=1.64e12,
      memory_bytes=32 * GIB,
      name="v6e",
      dimensions=2,
      example="8x8",
      largest=16,
      usable_hbm_bytes=int(31.24 * GIB),
      link_bandwidth=9e10,
      dcn_bandwidth=1.25e10,
      wraps_at=16,
      megacore=False,
    ),
  )
}


@dataclasses.dataclass(frozen=True)
class GpuChip(Accelerator):
  """A GPU of a node in which NVLink connects all GPUs, e.g. eight of NVIDIA's HGX or DGX.

  `memory_bytes` is None: variants differ, and each reports its own.

  Attributes:
    name: as in "h100:8".
    device_kind: what JAX calls the variant that is compiled for where none is present.
    capability: NVIDIA's compute capability.
    total_bytes: what this variant's driver reports as its memory.
    link_bandwidth: bytes per second each way between a GPU and all others of its node (NVLink).
    dcn_bandwidth: bytes per second each way of a GPU's network card (InfiniBand) to other nodes.
    multiprocessors: number of them.
    clock_ghz: the highest clock of the multiprocessors.
    l2_bytes: of the cache that all multiprocessors share.
    shared_bytes: of a multiprocessor's shared memory; a block of threads gets 1 KiB less.
    step_factor: the seconds of a step that were measured, over the sum of what its products take
      at the peak and its other kernels at the memory's bandwidth: the one constant that is fitted.
      None: nothing was measured. See launch/benchmarks/NOTES.md, "predictions".
  """

  name: str = dataclasses.field(kw_only=True)
  device_kind: str = dataclasses.field(kw_only=True)
  capability: tuple[int, int] = dataclasses.field(kw_only=True)
  total_bytes: int = dataclasses.field(kw_only=True)
  link_bandwidth: float = dataclasses.field(kw_only=True)
  dcn_bandwidth: float = dataclasses.field(kw_only=True)
  multiprocessors: int = dataclasses.field(kw_only=True)
  clock_ghz: float = dataclasses.field(kw_only=True)
  l2_bytes: int = dataclasses.field(kw_only=True)
  shared_bytes: int = dataclasses.field(kw_only=True)
  step_factor: float | None = dataclasses.field(default=None, kw_only=True)

  @property
  def usable_hbm_bytes(self) -> int:
    """What JAX lets a program use: it takes this share of the memory at its start.

    Raises:
      UserError: see gpu_memory_share.
    """
    return int(gpu_memory_share() * self.total_bytes)


GPU_NODE = 8  # GPUs of a node, at most
_MEMORY_SHARE = 0.75
# Environment variables with the share of a GPU's memory; JAX refuses both at once.
_MEMORY_SHARE_VARIABLES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
GPU_CHIPS = {
  chip.name: chip
  for chip in (
    GpuChip(
      kinds=("NVIDIA A100",),
      peak_flops=312e12,
      hbm_bandwidth=2.039e12,
      name="a100",
      device_kind="NVIDIA A100-SXM4-80GB",
      capability=(8, 0),
      total_bytes=85_100_068_864,
      link_bandwidth=3e11,
      dcn_bandwidth=2.5e10,
      multiprocessors=108,
      clock_ghz=1.41,
      l2_bytes=40 * 2**20,
      shared_bytes=164 * 2**10,
    ),
    GpuChip(
      kinds=("NVIDIA H100",),
      peak_flops=989e12,
      hbm_bandwidth=3.35e12,
      name="h100",
      device_kind="NVIDIA H100 80GB HBM3",
      capability=(9, 0),
      total_bytes=84_942_979_072,
      link_bandwidth=4.5e11,
      dcn_bandwidth=5e10,
      multiprocessors=132,
      clock_ghz=1.98,
      l2_bytes=50 * 2**20,
      shared_bytes=228 * 2**10,
    ),
    GpuChip(
      kinds=("NVIDIA H200",),
      peak_flops=989e12,
      hbm_bandwidth=4.8e12,
      name="h200",
      device_kind="NVIDIA H200",
      capability=(9, 0),
      total_bytes=int(139.8 * GIB),
      link_bandwidth=4.5e11,
      dcn_bandwidth=5e10,
      multiprocessors=132,
      clock_ghz=1.98,
      l2_bytes=50 * 2**20,
      shared_bytes=228 * 2**10,
      step_factor=1.67,
    ),
    GpuChip(
      kinds=("NVIDIA B200",),
      peak_flops=2250e12,
      hbm_bandwidth=8e12,
      name="b200",
      device_kind="NVIDIA B200",
      capability=(10, 0),
      total_bytes=191_514_411_008,
      link_bandwidth=9e11,
      dcn_bandwidth=5e10,
      multiprocessors=148,
      clock_ghz=1.965,
      l2_bytes=126 * 2**20,
      shared_bytes=228 * 2**10,
    ),
  )
}
GPUS = (
  *GPU_CHIPS.values(),
  Accelerator(("NVIDIA H100 PCIe",), peak_flops=756e12, hbm_bandwidth=2.0e12),
)


def find_accelerator(device_kind: str) -> Accelerator | None:
  """Returns the facts of a kind of device, None where they are not known (CPUs, other GPUs)."""
  found = [
    (len(kind), accelerator)
    for accelerator in (*TPU_CHIPS.values(), *GPUS)
    for kind in accelerator.kinds
    if device_kind.startswith(kind)
  ]
  return max(found, key=lambda pair: pair[0])[1] if found else None


def peak_flops(device: jax.Device) -> float | None:
  """Returns the bfloat16 FLOP/s of a device at its peak, None where they are not known (CPUs)."""
  accelerator = find_accelerator(device.device_kind)
  return accelerator.peak_flops if accelerator else None


def device_memory(device: jax.Device) -> int | None:
  """Returns the bytes of a device's memory, None where they are not known (CPUs)."""
  accelerator = find_accelerator(device.device_kind)
  if accelerator and accelerator.memory_bytes:
    return accelerator.memory_bytes
  if device.platform != "gpu":
    return None
  # A device of another process reports nothing here; all devices of a job are of one kind.
  local = jax.local_devices()[0]
  if isinstance(accelerator, GpuChip) and getattr(local, "platform", "gpu") != "gpu":
    return accelerator.total_bytes  # It is absent: a program is only compiled for it.
  stats = local.memory_stats() or {}
  limit = stats.get("bytes_limit")
  return limit and round(limit / GIB) * GIB


def gpu_memory_share(environ: Mapping[str, str] = os.environ) -> float:
  """Returns the share of a GPU's memory that JAX takes: three quarters if no variable says another.

  Raises:
    UserError: the variable is no share, or both of its names are set.
  """
  given = {name: environ[name] for name in _MEMORY_SHARE_VARIABLES if environ.get(name)}
  if len(given) > 1:
    raise UserError(f"{' and '.join(given)} are set, and mean the same; unset the second.")
  for name, text in given.items():
    try:
      share = float(text)
    except ValueError:
      share = math.nan
    if not 0 < share <= 1:
      raise UserError(
        f"The environment variable {name} = {text!r} is not a share of a GPU's memory; set it to "
        f"a number above 0, at most 1, or unset it, which means {_MEMORY_SHARE}."
      )
    return share
  return _MEMORY_SHARE


def compute_capability(device: jax.Device) -> tuple[int, ...] | None:
  """Returns what NVIDIA calls a GPU's generation, e.g. (9, 0); None if it is no such GPU."""
  capability = getattr(device, "compute_capability", None)
  return None if capability is None else tuple(int(x) for x in str(capability).split("."))
