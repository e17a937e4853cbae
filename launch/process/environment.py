"""The environment of a command: quiet libraries, XLA's flags, a compilation cache, memory pages.

Nothing here imports JAX or TensorFlow: they read the environment once, when they are imported.
"""

import contextlib
import gc
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import platform
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from types import ModuleType
from typing import IO

import absl.logging

from . import output

# The package of the commands: "launch" in a clone, "t5x_style.launch" where it is installed.
PACKAGE = __name__.removesuffix(".process.environment")

# The flags that differ from XLA's defaults, per accelerator, each with its reason. The user's flags
# (XLA_FLAGS, LIBTPU_INIT_ARGS) come later in the line and win.
XLA_FLAGS = {
  # None: fast math, oneDNN and vector width changed the time of a training step by less than the
  # noise, and what helped T5 (xla_cpu_experimental_ynn_fusion_type, see launch/benchmarks/NOTES.md)
  # did not help BERT. What counts is the layout of the matrix products.
  "cpu": {},
  # Not set: xla_gpu_enable_triton_gemm=false, which helps unrolled layers with biases and slows
  # scanned ones down by more (launch/benchmarks/NOTES.md). Not tried, as it takes several GPUs: the
  # size from which collectives are combined.
  "gpu": {
    # Collectives start early and are waited for late, so that they overlap with the matrix products
    # around them.
    "xla_gpu_enable_latency_hiding_scheduler": "true",
    # Products of the same input (query, key and value; the gates of T5) are not merged. The parts
    # of a merged product are copied apart, and their gradients together: in T5 1.1 large that was
    # an eighth of a step's memory traffic outside of products and attention.
    "xla_gpu_dot_merger_threshold_mb": "0",
  },
  # Kernels sharded along fsdp are gathered whole before the product that needs them. By default the
  # compiler turned products into loops over the shards: 46 loops in a T5 of base size, shards of
  # 0.2 MiB on 16 chips. The effect on a step's time is not measured yet. By libtpu's defaults
  # collectives overlap with products.
  "tpu": {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000"},
}

# What DETERMINISTIC = True adds. How far the same start of the same run repeats its bits:
# - CPU: always, on the same kind of processor with the same number of cores (measured).
# - TPU: always, on the same topology, as JAX's authors say; not measured.
# - GPU: only with these flags, on the same model of GPU with the same versions of CUDA, cuDNN and
#   NCCL, as XLA's documentation of the first flag says; not measured. Without them sums may be
#   unordered (atomic additions, cuDNN's backward pass), and autotuning chooses kernels by their
#   measured time, perhaps another one at each start.
# Batches are the same everywhere: the data pipeline uses only ordered operations of tf.data.
DETERMINISTIC_FLAGS = {
  "gpu": {
    # Includes xla_gpu_exclude_nondeterministic_ops: what has no deterministic kernel is an error.
    "xla_gpu_deterministic_ops": "true",
    "xla_gpu_autotune_level": "0",
  }
}

_CHATTY_LOGGERS = ("jax", "orbax", "tensorflow", "etils", "grain")

# What TensorFlow prints while it is imported, before it listens to TF_CPP_MIN_LOG_LEVEL.
_IMPORT_NOTICES = re.compile(rb"WARNING: All log messages before absl::InitializeLog|[IW]\d{4} ")


def is_plain(environ: Mapping[str, str] = os.environ) -> bool:
  """Returns whether the process must not be modified: see launch/process/__init__.py."""
  return environ.get("T5X_STYLE_PLAIN_PROCESS", "") not in ("", "0")


def prepare(environ: MutableMapping[str, str] = os.environ) -> None:
  """Sets what JAX and TensorFlow read from the environment; call it before importing them."""
  quieten(environ)
  set_xla_flags(environ)
  set_compilation_cache(environ)
  if not any(isinstance(finder, _QuietTensorFlow) for finder in sys.meta_path):
    sys.meta_path.insert(0, _QuietTensorFlow())


def as_started(text: str) -> str:
  """Returns the text with the `python -m launch.X` in it as this installation needs them."""
  return text.replace("python -m launch.", f"python -m {PACKAGE}.")


def take_large_pages(environ: Mapping[str, str] = os.environ) -> None:
  """Starts this program again, once, with memory pages of 2 MiB where they help: on CPUs.

  XLA allocates the memory of a step at every step, and with pages of 4 KiB a small model spends a
  fifth of its time in the kernel. glibc (2.35 or newer) uses larger pages if the environment says
  so when the process starts. GLIBC_TUNABLES=glibc.malloc.hugetlb=0 keeps small pages.
  """
  tunables = environ.get("GLIBC_TUNABLES", "")
  chosen = is_plain(environ) or sys.gettrace() or "glibc.malloc.hugetlb" in tunables
  if chosen or accelerator(environ) != "cpu" or not _has_large_pages():
    return
  tunables = ":".join(filter(None, [tunables, "glibc.malloc.hugetlb=1"]))
  output.open_missing()
  sys.stdout.flush()
  os.execve(sys.executable, sys.orig_argv, {**environ, "GLIBC_TUNABLES": tunables})


def _has_large_pages() -> bool:
  """Returns whether kernel and C library give large pages to a program that requests them."""
  setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
  library, version = platform.libc_ver()
  try:
    on_request = "[madvise]" in setting.read_text()
    return on_request and library == "glibc" and [*map(int, version.split("."))] >= [2, 35]
  except (OSError, ValueError):
    return False


def quieten(environ: MutableMapping[str, str]) -> None:
  """Keeps the notices of TensorFlow, XLA, gRPC and Python's libraries out of the terminal.

  Errors are still shown. TF_CPP_MIN_LOG_LEVEL=0 shows every message of the C++ libraries.
  """
  environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # If on, it announces that results may vary.
  environ.setdefault("GRPC_VERBOSITY", "ERROR")
  environ.setdefault("GLOG_minloglevel", "3")
  absl.logging.set_verbosity(absl.logging.ERROR)
  for name in _CHATTY_LOGGERS:
    logging.getLogger(name).setLevel(logging.ERROR)
  for category in (DeprecationWarning, FutureWarning, UserWarning):
    # Only those of other packages: this package warns about what a user can fix.
    warnings.filterwarnings("ignore", category=category, module=r"(?!t5x_style|launch)")
  warnings.showwarning = _show_warning


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
  """Prints the message only: the line of code that raised it does not help a user."""
  print(f"warning: {as_started(str(message))}", file=file or sys.stderr, flush=True)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
  """Removes TensorFlow's notices from the standard error; the rest of it is printed at the end."""
  held = None if is_plain() else _temporary_file()
  if held is None:
    yield
    return
  sys.stderr.flush()
  kept = os.dup(2)
  with held:
    os.dup2(held.fileno(), 2)
    try:
      yield
    finally:
      sys.stderr.flush()
      os.dup2(kept, 2)
      os.close(kept)
      held.seek(0)
      with contextlib.suppress(OSError):  # The standard error may be closed.
        for line in held:
          if not _IMPORT_NOTICES.match(line):
            os.write(2, line)


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
  """Imports TensorFlow without its notices, whichever module needs it first, and however late."""

  def find_spec(self, name, path, target=None):
    if name != "tensorflow":
      return None
    spec = importlib.machinery.PathFinder.find_spec(name, path, target)
    if spec and spec.loader:
      spec.loader = _QuietLoader(spec.loader)
    return spec


class _QuietLoader(importlib.abc.Loader):
  """Executes a module within `quiet_imports`; then the module has its own loader again."""

  def __init__(self, loader: importlib.abc.Loader):
    self._loader = loader

  def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
    return self._loader.create_module(spec)

  def exec_module(self, module: ModuleType) -> None:
    module.__loader__ = self._loader
    if module.__spec__:
      module.__spec__.loader = self._loader
    with quiet_imports():
      self._loader.exec_module(module)


def _temporary_file() -> IO[bytes] | None:
  """Opens a file that disappears when it is closed; None if no folder has room for one."""
  try:
    return tempfile.TemporaryFile()
  except OSError:
    return None


def set_compilation_cache(environ: MutableMapping[str, str]) -> None:
  """Keeps compiled programs for the next start of the same run.

  JAX_COMPILATION_CACHE_DIR is the folder; empty turns the cache off. The default is one folder per
  kind of processor in the user's cache: code compiled for another kind may not run, and a home
  directory is often shared between machines.
  """
  base = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
  environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(base / "t5x_style" / "xla" / processor_name())
  )
  # JAX's default of one second leaves out the many small programs of a start.
  environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def processor_name() -> str:
  """Returns a short name that two processors share only if they have the same instructions."""
  try:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    lines = [platform.processor()]
  kept = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
  return f"{platform.machine()}-{hashlib.sha256(repr(sorted(kept)).encode()).hexdigest()[:8]}"


def set_xla_flags(environ: MutableMapping[str, str], kind: str | None = None) -> None:
  """Puts the flags for an accelerator (None: this machine's) before the user's."""
  kind = kind or accelerator(environ)
  _put_flags(environ, kind, XLA_FLAGS[kind])


def set_deterministic(
  environ: MutableMapping[str, str] = os.environ, kind: str | None = None
) -> None:
  """Puts DETERMINISTIC_FLAGS before all others; changes nothing on CPUs and TPUs.

  XLA reads them when JAX first looks for devices: call it before that.
  """
  kind = kind or accelerator(environ)
  _put_flags(environ, kind, DETERMINISTIC_FLAGS.get(kind, {}))


def _put_flags(environ: MutableMapping[str, str], kind: str, flags: Mapping[str, str]) -> None:
  variable = "LIBTPU_INIT_ARGS" if kind == "tpu" else "XLA_FLAGS"
  if flags:
    words = [f"--{name}={value}" for name, value in flags.items()]
    environ[variable] = " ".join([*words, environ.get(variable, "")]).strip()


def share_memory(environ: MutableMapping[str, str] = os.environ) -> None:
  """Has JAX allocate a GPU's memory when it needs it, so that other libraries can have some."""
  environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def xla_facts(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
  """Returns {variable: XLA's flags, the user's among them} for a run's header; {} without flags."""
  variable = "LIBTPU_INIT_ARGS" if accelerator(environ) == "tpu" else "XLA_FLAGS"
  flags = environ.get(variable, "")
  return {variable: flags} if flags else {}


def accelerator(environ: Mapping[str, str]) -> str:
  """Returns "cpu", "gpu" or "tpu", the kind that JAX will find, without importing JAX."""
  requested = environ.get("JAX_PLATFORMS", "").split(",")[0]
  if requested:
    known = requested if requested in XLA_FLAGS else "cpu"
    return {"cuda": "gpu", "rocm": "gpu"}.get(requested, known)
  if Path("/dev/nvidia0").exists() and environ.get("CUDA_VISIBLE_DEVICES") != "":
    return "gpu"
  on_tpu = "TPU_NAME" in environ or "TPU_WORKER_ID" in environ or Path("/dev/accel0").exists()
  on_tpu |= Path("/dev/vfio/0").exists() and importlib.util.find_spec("libtpu") is not None
  return "tpu" if on_tpu else "cpu"


def freeze_objects() -> None:
  """Keeps the garbage collector from visiting the objects allocated so far, mostly TensorFlow's.

  A full collection over them takes 0.4 s, several times while a step is traced.
  """
  if not is_plain():
    gc.collect()
    gc.freeze()
