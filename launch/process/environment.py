"""The process a command runs in: quiet libraries, a compilation cache, XLA's flags, its peers.

JAX is imported only where processes are connected: what JAX and TensorFlow read from
the environment must be there first.
"""

import contextlib
import hashlib
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

import absl.logging

# The package of the commands: "launch" in a clone, "t5x_style.launch" where it is installed.
PACKAGE = __name__.removesuffix(".process.environment")

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

_CHATTY_LOGGERS = ("jax", "orbax", "tensorflow", "etils", "grain")

# What TensorFlow prints while it is imported, before it listens to TF_CPP_MIN_LOG_LEVEL.
_IMPORT_NOTICES = re.compile(rb"WARNING: All log messages before absl::InitializeLog|[IW]\d{4} ")


def prepare(environ: MutableMapping[str, str] = os.environ) -> None:
  """To be called before anything imports JAX or TensorFlow."""
  quieten(environ)
  set_xla_flags(environ)
  set_compilation_cache(environ)


def as_started(text: str) -> str:
  """Returns the text with every `python -m launch.X` as it has to be typed here."""
  return text.replace("python -m launch.", f"python -m {PACKAGE}.")


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
  print(f"warning: {as_started(str(message))}", file=file or sys.stderr, flush=True)


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
