"""What a process finds out about its host: devices, their speed, free memory and disk."""

import dataclasses
import functools
import re
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

_RUNS = 3  # of each measurement; the fastest counts
_PRODUCTS = 4  # in a row, so that the start of a program does not count
# Rows and columns of the matrices: a product takes milliseconds. CPUs get smaller ones.
_SIZE = {"cpu": 512}
_LARGE_SIZE = 8192
# Numbers in float32 that every device adds to those of the others.
_SUMMED = {"cpu": 1 << 18}
_MANY_SUMMED = 1 << 22
# Devices give 1 to so much: float32 adds these exactly, in any order, on up to 66,000 devices.
_LARGEST_SUMMAND = 251


@dataclasses.dataclass(frozen=True)
class Report:
  """What one process found.

  Attributes:
    host: the host's name.
    platform, device_kind: as JAX names its devices: "tpu", "TPU v5 lite".
    devices: how many devices the process has.
    present: the kind of accelerator that the machine seems to have: "cpu", "gpu" or "tpu".
    gpus: how many NVIDIA GPUs the machine shows.
    flops: FLOP/s of a matrix product on the slowest of its devices.
    wrong_products, wrong_sum: whether a device computed another product or sum than the right one.
    all_reduce_bytes: what each device gave to the sum over all devices of the job.
    all_reduce_seconds: how long that sum took.
    free_memory: bytes of the host's memory; None where the system does not say.
    free_disk: bytes where MODEL_DIR is; None in a bucket, or without MODEL_DIR.
    times: the seconds of its clock at moments that are the same for all processes.
    model_dir_error: why MODEL_DIR could not be written; "" if it could.
    unseen: the processes whose files in MODEL_DIR this one did not find.
  """

  host: str
  platform: str
  device_kind: str
  devices: int
  present: str
  gpus: int
  flops: float
  wrong_products: bool
  wrong_sum: bool
  all_reduce_bytes: int
  all_reduce_seconds: float
  free_memory: int | None
  free_disk: int | None
  times: tuple[float, ...] = ()
  model_dir_error: str = ""
  unseen: tuple[int, ...] = ()


def measure(model_dir: epath.PathLike | None, present: str) -> Report:
  """Measures this host; all processes of a job do so at once, as their devices add numbers.

  Args:
    model_dir: the folder whose disk is looked at.
    present: the kind of accelerator that the machine seems to have.
  """
  device = jax.local_devices()[0]
  flops, wrong_products = _product()
  seconds, wrong_sum = _all_reduce()
  return Report(
    host=socket.gethostname(),
    platform=device.platform,
    device_kind=device.device_kind,
    devices=jax.local_device_count(),
    present=present,
    gpus=sum(bool(re.fullmatch(r"nvidia\d+", path.name)) for path in Path("/dev").iterdir()),
    flops=flops,
    wrong_products=wrong_products,
    wrong_sum=wrong_sum,
    all_reduce_bytes=4 * _summed(),
    all_reduce_seconds=seconds,
    free_memory=free_memory(),
    free_disk=_free_disk(model_dir),
  )


def from_json(values: Mapping[str, Any]) -> Report:
  """Returns the report whose dataclasses.asdict came through JSON."""
  lists = {name: tuple(values[name]) for name in ("times", "unseen")}
  return Report(**{**values, **lists})


def _product() -> tuple[float, bool]:
  """Returns FLOP/s of a matrix product on the slowest device here, and whether one was wrong.

  The second factor moves the columns of the first by one place, so products of any precision are
  exact, and the right result is known.
  """
  devices = jax.local_devices()
  size = _SIZE.get(devices[0].platform, _LARGE_SIZE)
  kind = jnp.float32 if devices[0].platform == "cpu" else jnp.bfloat16
  sharding = _sharding(devices, "devices")

  def pattern() -> jax.Array:  # bfloat16 has all integers up to 256.
    rows, columns = (jax.lax.broadcasted_iota(jnp.int32, (size, size), axis) for axis in (0, 1))
    return jnp.broadcast_to((rows * 7 + columns * 3) % 251, (len(devices), size, size)).astype(kind)

  def shift() -> jax.Array:
    return jnp.roll(jnp.eye(size, dtype=kind), 1, axis=1)

  def is_wrong(matrices: jax.Array, move: jax.Array) -> jax.Array:
    result = matrices
    for _ in range(_PRODUCTS):
      result = jnp.einsum("dij,jk->dik", result, move)
    return jnp.any(result != jnp.roll(matrices, _PRODUCTS, axis=2), axis=(1, 2))

  arguments = (
    jax.jit(pattern, out_shardings=sharding)(),
    jax.jit(shift, out_shardings=_sharding(devices))(),
  )
  seconds, wrong = _fastest(
    functools.partial(jax.jit(is_wrong, out_shardings=sharding), *arguments)
  )
  return _PRODUCTS * 2 * size**3 / seconds, bool(np.asarray(wrong).any())


def _all_reduce() -> tuple[float, bool]:
  """Returns the seconds of a sum over all devices of the job, and whether it is wrong here."""
  devices, length = jax.devices(), _summed()

  def given() -> jax.Array:
    rows = jax.lax.broadcasted_iota(jnp.float32, (len(devices), length), 0)
    return summand(rows)

  numbers = jax.jit(given, out_shardings=_sharding(devices, "devices"))()
  add = jax.jit(lambda x: x.sum(0), out_shardings=_sharding(devices))
  seconds, total = _fastest(functools.partial(add, numbers))
  right = right_sum(len(devices))
  wrong = any(bool((np.asarray(shard.data) != right).any()) for shard in total.addressable_shards)
  return seconds, wrong


def summand(device: Any) -> Any:
  """Returns what a device, a number or an array of numbers of them, gives to the sum."""
  return device % _LARGEST_SUMMAND + 1


def right_sum(devices: int) -> int:
  """Returns the sum of what this many devices give."""
  return sum(summand(device) for device in range(devices))


def _summed() -> int:
  return _SUMMED.get(jax.devices()[0].platform, _MANY_SUMMED)


def _sharding(devices: list[jax.Device], *axes: str) -> jax.sharding.NamedSharding:
  mesh = jax.sharding.Mesh(np.array(devices), ("devices",))
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def _fastest(compute: Callable[[], jax.Array]) -> tuple[float, jax.Array]:
  """Returns the seconds of the fastest of some calls, after one that compiles, and the result."""
  result = jax.block_until_ready(compute())
  seconds = []
  for _ in range(_RUNS):
    start = time.perf_counter()
    result = jax.block_until_ready(compute())
    seconds.append(time.perf_counter() - start)
  return min(seconds), result


def free_memory(root: Path = Path("/")) -> int | None:
  """Returns the bytes of memory that a program can still have here; None if unknown.

  Args:
    root: the folder that holds proc and sys.
  """
  try:
    lines = (root / "proc/meminfo").read_text().splitlines()
    free = next(int(x.split()[1]) << 10 for x in lines if x.startswith("MemAvailable:"))
  except (OSError, StopIteration):
    return None
  try:  # A container's limit.
    group = root / "sys/fs/cgroup"
    limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
    return min(free, int(limit) - int(used))
  except (OSError, ValueError):
    return free


def _free_disk(folder: epath.PathLike | None) -> int | None:
  if folder is None or "://" in str(folder):
    return None
  return shutil.disk_usage(epath.Path(folder).expanduser()).free
