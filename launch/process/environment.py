"""The process a command runs in: quiet libraries, a compilation cache, XLA's flags, its peers.

JAX is imported only where processes are connected: what JAX and TensorFlow read from
the environment must be there first.
"""

import contextlib
import errno
import hashlib
import importlib.util
import logging
import os
import platform
import re
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import absl.logging

from launch.configuration.errors import ConfigurationError
from launch.process import watchdog

# What JAX is told beyond its own defaults, per accelerator, each with its reason. Flags of the user
# (XLA_FLAGS, LIBTPU_INIT_ARGS) come later in the line and win.
XLA_FLAGS = {
  # Nothing: fast math, oneDNN and vector width moved a training step by less than the noise of
  # measuring it, and what helped T5 (xla_cpu_experimental_ynn_fusion_type, see
  # launch/benchmarks/NOTES.md) did not help BERT. What counts is the layout of the products.
  "cpu": {},
  # Not set: xla_gpu_enable_triton_gemm=false, which helps unrolled layers with biases and costs
  # scanned ones more (launch/benchmarks/NOTES.md). Not tried, as it takes several GPUs: the size
  # from which collectives are combined.
  "gpu": {
    # Collectives of sharded runs are started early and waited for late, so that they overlap with
    # the matrix products around them.
    "xla_gpu_enable_latency_hiding_scheduler": "true",
    # Products of the same input (query, key and value; the gates of T5) are not joined: joined, the
    # parts had to be copied out, and their gradients together, an eighth of what a step of T5 1.1
    # large reads and writes outside of products and attention.
    "xla_gpu_dot_merger_threshold_mb": "0",
  },
  # Asks that kernels along fsdp are gathered whole, ahead of the product that needs them: without
  # it the compiler turned products into loops over their parts, 46 loops in a T5 of base size,
  # parts of 0.2 MiB on 16 chips. What it changes in a step's time is not measured yet. Collectives
  # overlap with products by libtpu's defaults.
  "tpu": {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"},
}

# Set by the launcher of a job with several processes, which JAX then recognises by itself.
_CLUSTER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "JAX_NUM_PROCESSES")

# A process not heard of for so long is dead. With JAX's own 100 s a job waits too long for it.
_HEARTBEAT_SECONDS = 40
# At the end, or at an error, processes wait so long for each other.
_SHUTDOWN_SECONDS = 30

_CHATTY_LOGGERS = ("jax", "orbax", "tensorflow", "etils", "grain")

# What TensorFlow prints while it is imported, before it listens to TF_CPP_MIN_LOG_LEVEL.
_IMPORT_NOTICES = re.compile(rb"WARNING: All log messages before absl::InitializeLog|[IW]\d{4} ")


def prepare(environ: MutableMapping[str, str] = os.environ) -> None:
  """To be called before anything imports JAX or TensorFlow."""
  quieten(environ)
  set_xla_flags(environ)
  set_compilation_cache(environ)


def take_large_pages(environ: Mapping[str, str] = os.environ) -> None:
  """Starts this program again, once, with memory in pages of 2 MiB where they help: on CPUs.

  XLA allocates what a step needs anew each time, and in pages of 4 KiB a small model spends a
  fifth of its time in the kernel. glibc (2.35 or newer) takes larger ones if told so before the
  process starts. GLIBC_TUNABLES=glibc.malloc.hugetlb=0 in the environment leaves them.
  """
  tunables = environ.get("GLIBC_TUNABLES", "")
  asked_before = "glibc.malloc.hugetlb" in tunables
  if asked_before or sys.gettrace() or accelerator(environ) != "cpu" or not _has_large_pages():
    return
  tunables = ":".join(filter(None, [tunables, "glibc.malloc.hugetlb=1"]))
  sys.stdout.flush()
  os.execve(sys.executable, sys.orig_argv, {**environ, "GLIBC_TUNABLES": tunables})


def _has_large_pages() -> bool:
  """Whether the kernel and the C library give them to a program that asks."""
  setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
  library, version = platform.libc_ver()
  try:
    asked_for = "[madvise]" in setting.read_text()
    return asked_for and library == "glibc" and [*map(int, version.split("."))] >= [2, 35]
  except (OSError, ValueError):
    return False


def quieten(environ: MutableMapping[str, str]) -> None:
  """Keeps the notices of TensorFlow, XLA, gRPC and Python's libraries out of the terminal.

  Errors still show. Set TF_CPP_MIN_LOG_LEVEL=0 to see all that the C++ libraries have to say.
  """
  environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # Or it announces that results may vary.
  environ.setdefault("GRPC_VERBOSITY", "ERROR")
  environ.setdefault("GLOG_minloglevel", "3")
  absl.logging.set_verbosity(absl.logging.ERROR)
  for name in _CHATTY_LOGGERS:
    logging.getLogger(name).setLevel(logging.ERROR)
  for category in (DeprecationWarning, FutureWarning, UserWarning):
    # Those of other packages; ours are raised where a user can mend something.
    warnings.filterwarnings("ignore", category=category, module=r"(?!t5x_style|launch)")
  warnings.showwarning = _show_warning


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
  """Without the line of code that raised it, which says nothing to who can mend it."""
  print(f"warning: {message}", file=file or sys.stderr, flush=True)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
  """Keeps TensorFlow's notices at import out of the standard error; the rest of it comes later."""
  sys.stderr.flush()
  kept = os.dup(2)
  with tempfile.TemporaryFile() as held:
    os.dup2(held.fileno(), 2)
    try:
      yield
    finally:
      sys.stderr.flush()
      os.dup2(kept, 2)
      os.close(kept)
      held.seek(0)
      for line in held:
        if not _IMPORT_NOTICES.match(line):
          os.write(2, line)


def set_compilation_cache(environ: MutableMapping[str, str]) -> None:
  """Compiled programs are kept for the next start of the same run.

  JAX_COMPILATION_CACHE_DIR says where; empty turns the cache off. By default it is a folder per
  kind of processor in the user's cache: code compiled for another one may not run, and a home
  directory is often shared between machines.
  """
  base = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
  environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(base / "t5x_style" / "xla" / processor_name())
  )
  # JAX's own limit of one second leaves out the many small programs of a start.
  environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def processor_name() -> str:
  """A short name that two processors share only if they have the same instructions."""
  try:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    lines = [platform.processor()]
  kept = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
  return f"{platform.machine()}-{hashlib.sha256(repr(sorted(kept)).encode()).hexdigest()[:8]}"


def set_xla_flags(environ: MutableMapping[str, str], kind: str | None = None) -> None:
  """Puts an accelerator's flags in front of the user's; this machine's if None."""
  kind = kind or accelerator(environ)
  variable = "LIBTPU_INIT_ARGS" if kind == "tpu" else "XLA_FLAGS"
  ours = [f"--{name}={value}" for name, value in XLA_FLAGS[kind].items()]
  if ours:
    environ[variable] = " ".join([*ours, environ.get(variable, "")]).strip()


def share_memory(environ: MutableMapping[str, str] = os.environ) -> None:
  """Leaves a GPU's memory to other libraries of this process until it is needed."""
  environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def xla_facts(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
  """The flags this accelerator gets and those of the user, for the header; nothing where none."""
  variable = "LIBTPU_INIT_ARGS" if accelerator(environ) == "tpu" else "XLA_FLAGS"
  flags = environ.get(variable, "")
  return {variable: flags} if flags else {}


def accelerator(environ: Mapping[str, str]) -> str:
  """ "cpu", "gpu" or "tpu": what JAX will find, told without importing it."""
  asked = environ.get("JAX_PLATFORMS", "").split(",")[0]
  if asked:
    return {"cuda": "gpu", "rocm": "gpu"}.get(asked, asked if asked in XLA_FLAGS else "cpu")
  if Path("/dev/nvidia0").exists() and environ.get("CUDA_VISIBLE_DEVICES") != "":
    return "gpu"
  on_tpu = "TPU_NAME" in environ or "TPU_WORKER_ID" in environ or Path("/dev/accel0").exists()
  on_tpu |= Path("/dev/vfio/0").exists() and importlib.util.find_spec("libtpu") is not None
  return "tpu" if on_tpu else "cpu"


def connect(values: Any, environ: Mapping[str, str] = os.environ) -> None:
  """Joins the other processes of the job, where the flags or the environment name any.

  Args:
    values: flags with coordinator_address, process_count and process_index.

  Raises:
    ConfigurationError: only some of the flags are given, or the others cannot be reached.
  """
  arguments = distributed_arguments(values, environ)
  # A TPU machine may be one of a slice: its metadata, which JAX asks, tell.
  perhaps = arguments is None and accelerator(environ) == "tpu"
  if arguments is None and not perhaps:
    return
  _check_the_port(arguments or {}, environ)
  watchdog.watch()
  import jax

  # The one implementation of collectives between CPU processes that needs nothing installed.
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  try:
    jax.distributed.initialize(
      **(arguments or {}),
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
    )
  except (RuntimeError, ValueError) as error:  # JAX's own errors are RuntimeErrors.
    if perhaps and re.search("(should|must) be defined", str(error)):
      watchdog.finished()
      return
    raise ConfigurationError(_not_connected(arguments or {}, error)) from error


def _check_the_port(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> None:
  """Tells process 0 that it cannot listen, where JAX may end in a segmentation fault."""
  address = arguments.get("coordinator_address") or environ.get("JAX_COORDINATOR_ADDRESS", "")
  port = address.rpartition(":")[2]
  if arguments.get("process_id") != 0 or not port.isdigit():
    return
  both = socket.has_dualstack_ipv6()
  family = socket.AF_INET6 if both else socket.AF_INET
  try:
    socket.create_server(("", int(port)), family=family, dualstack_ipv6=both).close()
  except (OSError, OverflowError) as error:
    raise ConfigurationError(
      f"Process 0 cannot listen at the address {address}: {_why_not(error)}. Choose another port, "
      "the same in all processes, e.g. --coordinator_address=HOST:12355."
    ) from error


def _why_not(error: Exception) -> str:
  taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
  return "another program uses this port" if taken else str(error).rstrip(".")


def _not_connected(arguments: Mapping[str, Any], error: Exception) -> str:
  address = arguments.get("coordinator_address", "that the environment names")
  reason = str(error).strip().splitlines()[0]
  return (
    f"The processes of the job did not find each other at the address {address} ({reason}). Start "
    "all of them, give all the same --coordinator_address and --process_count, and each its own "
    "--process_index."
  )


def distributed_arguments(values: Any, environ: Mapping[str, str]) -> dict[str, Any] | None:
  """What jax.distributed.initialize is called with; None for a process on its own."""
  names = ("coordinator_address", "process_count", "process_index")
  given = {name: getattr(values, name) for name in names if getattr(values, name) is not None}
  if given:
    missing = [f"--{name}" for name in names if name not in given]
    if missing:
      raise ConfigurationError(
        f"{', '.join(f'--{name}' for name in given)} without {', '.join(missing)}: a job of "
        "several processes needs all three, e.g. --coordinator_address=host0:1234 "
        "--process_count=2 --process_index=0."
      )
    if given["process_index"] >= given["process_count"]:
      raise ConfigurationError(
        f"--process_index={given['process_index']} of --process_count={given['process_count']}: "
        "processes are counted from 0."
      )
    if not re.fullmatch(r".+:\d+", given["coordinator_address"]):
      raise ConfigurationError(
        f"--coordinator_address={given['coordinator_address']} names no port; write HOST:PORT, "
        "e.g. host0:1234."
      )
    address, count, index = (given[name] for name in names)
    return {"coordinator_address": address, "num_processes": count, "process_id": index}
  if environ.get("JAX_COORDINATOR_ADDRESS") and environ.get("JAX_NUM_PROCESSES"):
    return {
      "num_processes": int(environ["JAX_NUM_PROCESSES"]),
      "process_id": int(environ.get("JAX_PROCESS_ID") or 0),
    }
  several = any(int(environ.get(name) or 1) > 1 for name in _CLUSTER_SIZES)
  # In the shell of a batch job SLURM tells the number of tasks too; srun alone starts them.
  several |= int(environ.get("SLURM_NTASKS") or 1) > 1 and "SLURM_STEP_NODELIST" in environ
  several |= "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ
  several |= "," in environ.get("TPU_WORKER_HOSTNAMES", "")
  return {} if several or "JAX_COORDINATOR_ADDRESS" in environ else None
