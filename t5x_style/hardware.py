"""Published facts of accelerators: the one table of FLOP/s, memory, bandwidths and links.

Sources: Google's Cloud TPU system architecture pages (v4, v5e, v5p, v6e) for FLOP/s, memory and its
bandwidth; "How to Scale Your Model" (Austin et al. 2025), part 2, for the links between chips and
the network between slices; NVIDIA's data sheets of the A100, H100 and H200.
"""

import dataclasses

import jax

GIB = 2**30


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
    largest: the most chips along an axis of a slice.
    usable_hbm_bytes: what the compiler lets a program use of the high-bandwidth memory.
    link_bandwidth: bytes per second each way over one link between chips (ICI); two links per axis.
    dcn_bandwidth: bytes per second of a chip's share in its host's network card, to other slices.
    wraps_at: an axis closes to a ring where its length is a multiple of this.
  """

  name: str = dataclasses.field(kw_only=True)
  dimensions: int = dataclasses.field(kw_only=True)
  largest: int = dataclasses.field(kw_only=True)
  usable_hbm_bytes: int = dataclasses.field(kw_only=True)
  link_bandwidth: float = dataclasses.field(kw_only=True)
  dcn_bandwidth: float = dataclasses.field(kw_only=True)
  wraps_at: int = dataclasses.field(kw_only=True)


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
      largest=16,
      usable_hbm_bytes=int(30.75 * GIB),
      link_bandwidth=4.5e10,
      dcn_bandwidth=3.125e9,
      wraps_at=4,
    ),
    TpuChip(
      kinds=("TPU v5 lite", "TPU v5e"),
      peak_flops=197e12,
      hbm_bandwidth=8.2e11,
      memory_bytes=16 * GIB,
      name="v5e",
      dimensions=2,
      largest=16,
      usable_hbm_bytes=int(15.75 * GIB),
      link_bandwidth=4.5e10,
      dcn_bandwidth=3.125e9,
      wraps_at=16,
    ),
    TpuChip(
      kinds=("TPU v5", "TPU v5p"),
      peak_flops=459e12,
      hbm_bandwidth=2.77e12,
      memory_bytes=95 * GIB,
      name="v5p",
      dimensions=3,
      largest=28,
      usable_hbm_bytes=int(95.73 * GIB),
      link_bandwidth=9e10,
      dcn_bandwidth=6.25e9,
      wraps_at=4,
    ),
    TpuChip(
      kinds=("TPU v6 lite", "TPU v6e"),
      peak_flops=918e12,
      hbm_bandwidth=1.64e12,
      memory_bytes=32 * GIB,
      name="v6e",
      dimensions=2,
      largest=16,
      usable_hbm_bytes=int(31.24 * GIB),
      link_bandwidth=9e10,
      dcn_bandwidth=1.25e10,
      wraps_at=16,
    ),
  )
}
GPUS = (
  Accelerator(("NVIDIA A100",), peak_flops=312e12, hbm_bandwidth=2.0e12),
  Accelerator(("NVIDIA H100 PCIe",), peak_flops=756e12, hbm_bandwidth=2.0e12),
  Accelerator(("NVIDIA H100",), peak_flops=989e12, hbm_bandwidth=3.35e12),
  Accelerator(("NVIDIA H200",), peak_flops=989e12, hbm_bandwidth=4.8e12),
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
  stats = jax.local_devices()[0].memory_stats() or {}
  limit = stats.get("bytes_limit")
  return limit and round(limit / GIB) * GIB
