"""NVIDIA GPUs to compile for on a machine without any: JAX's CUDA plugin is the compiler.

XLA takes the facts of such a GPU as text, a GpuTargetConfigProto (xla/stream_executor/
device_description.proto). Which kernel multiplies is not tried out, as no GPU runs; what is fused
and how much memory a program needs do not depend on it.
"""

import importlib.util

import jax
from jax.experimental import topologies

from t5x_style.errors import UserError
from t5x_style.hardware import GpuChip

_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
# Without a GPU nothing says which cuDNN will run; the least version that JAX's plugins accept.
_CUDNN = (9, 8, 0)


def available() -> bool:
  """Returns whether this machine can compile for absent GPUs: it has the plugin and no GPU."""
  installed = any(importlib.util.find_spec(name) for name in _PLUGINS)
  return installed and jax.default_backend() != "gpu"


def devices(chip: GpuChip, nodes: int, gpus: int) -> list[jax.Device]:
  """Returns the devices of `nodes` nodes with `gpus` GPUs each; nothing can run on them.

  Each node is a process of the job.

  Raises:
    UserError: the CUDA plugin is not installed or cannot compile for such GPUs.
  """
  if not any(importlib.util.find_spec(name) for name in _PLUGINS):
    raise UserError(
      "Compiling for GPUs takes JAX's CUDA plugin: pip install 'jax[cuda13]' (or this package with "
      "its extra: pip install '.[cuda]'). It needs no GPU."
    )
  try:
    description = topologies.get_topology_desc(
      platform="cuda", topology=f"{nodes}x1x{gpus}", target_config=target_config(chip)
    )
  except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
    first_line = str(error).splitlines()[0]
    raise UserError(
      f"JAX's CUDA plugin cannot compile for an absent {chip.name}: {first_line} "
      f"pip install 'jax[cuda13]=={jax.__version__}'"
    ) from error
  return list(description.devices)


def target_config(chip: GpuChip) -> str:
  """Returns the facts of a GPU as the text that XLA reads."""
  major, minor = chip.capability
  # From compute capability 9.0 on, XLA compiles for the variant with all of a GPU's features.
  features = "ACCELERATED_FEATURES" if chip.capability >= (9, 0) else "NONE"
  units = 64 if chip.capability == (8, 0) else 128  # in float32, of a multiprocessor
  return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: {2**31 - 1}
  block_dim_limit_y: {2**16 - 1}
  block_dim_limit_z: {2**16 - 1}
  registers_per_core_limit: {2**16}
  registers_per_block_limit: {2**16}
  shared_memory_per_block: {48 * 2**10}
  shared_memory_per_block_optin: {chip.shared_bytes - 2**10}
  shared_memory_per_core: {chip.shared_bytes}
  core_count: {chip.multiprocessors}
  fpus_per_core: {units}
  clock_rate_ghz: {chip.clock_ghz}
  memory_bandwidth: {int(chip.hbm_bandwidth)}
  l2_cache_size: {chip.l2_bytes}
  device_memory_size: {chip.total_bytes}
  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {features} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: {_CUDNN[0]} minor: {_CUDNN[1]} patch: {_CUDNN[2]} }}
device_description_str: "{chip.device_kind}"
"""
