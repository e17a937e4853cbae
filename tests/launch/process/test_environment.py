"""The environment a command prepares, and how it finds its peers."""

import os
import subprocess
import sys
import types

import pytest

from launch.configuration.errors import ConfigurationError
from launch.process import environment


def peers(coordinator_address=None, process_count=None, process_index=None, **environ):
  values = types.SimpleNamespace(
    coordinator_address=coordinator_address,
    process_count=process_count,
    process_index=process_index,
  )
  return environment.distributed_arguments(values, environ)


def test_alone():
  assert peers() is None
  assert peers(SLURM_NTASKS="1", TPU_WORKER_HOSTNAMES="localhost") is None
  assert peers(SLURM_NTASKS="4") is None  # A batch job's own shell, not one of srun's tasks.


def test_flags_name_the_peers():
  assert peers("host:1", 2, 0) == {
    "coordinator_address": "host:1",
    "num_processes": 2,
    "process_id": 0,
  }


@pytest.mark.parametrize(
  "environ",
  [
    {"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "node[1-4]"},
    {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"},
    {"OMPI_COMM_WORLD_SIZE": "2"},
    {"TPU_WORKER_HOSTNAMES": "a,b"},
    {"JAX_COORDINATOR_ADDRESS": "host:1"},
  ],
)
def test_a_cluster_names_the_peers(environ):
  assert peers(**environ) == {}


def test_the_environment_names_the_peers():
  environ = {"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
  assert peers(JAX_COORDINATOR_ADDRESS="host:1", **environ) == {
    "num_processes": 4,
    "process_id": 3,
  }


def test_incomplete_peers():
  with pytest.raises(ConfigurationError, match="=host names no port; write HOST:PORT"):
    peers("host", 2, 1)
  with pytest.raises(ConfigurationError, match="--process_count without --coordinator_address, "):
    peers(process_count=2)
  with pytest.raises(ConfigurationError, match="--process_index=2 of --process_count=2: "):
    peers("host:1", 2, 2)


def test_the_cache_is_the_users_and_of_this_processor():
  environ = {"XDG_CACHE_HOME": "/home/me/cache"}
  environment.set_compilation_cache(environ)
  assert environ["JAX_COMPILATION_CACHE_DIR"] == (
    f"/home/me/cache/t5x_style/xla/{environment.processor_name()}"
  )
  environ = {"JAX_COMPILATION_CACHE_DIR": ""}  # Turned off.
  environment.set_compilation_cache(environ)
  assert environ["JAX_COMPILATION_CACHE_DIR"] == ""


def test_the_users_xla_flags_come_last(monkeypatch):
  monkeypatch.setitem(environment.XLA_FLAGS, "cpu", {"xla_a": "1"})
  environ = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_a=2"}
  environment.set_xla_flags(environ)
  assert environ["XLA_FLAGS"] == "--xla_a=1 --xla_a=2"
  assert environment.xla_facts(environ) == {"XLA_FLAGS": "--xla_a=1 --xla_a=2"}
  assert environment.xla_facts({"JAX_PLATFORMS": "cpu"}) == {}


def test_accelerator():
  assert environment.accelerator({"JAX_PLATFORMS": "cuda"}) == "gpu"
  assert environment.accelerator({"JAX_PLATFORMS": "tpu,cpu"}) == "tpu"
  assert environment.accelerator({"JAX_PLATFORMS": "cpu"}) == "cpu"


def test_xla_knows_all_flags():
  """XLA ends the process at a flag it does not know: of one that is gone, this test tells."""
  flags = " ".join(f"--{name}={value}" for name, value in environment.XLA_FLAGS["gpu"].items())
  environ = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [sys.executable, "-c", "import jax; jax.devices()"],
    env=environ,
    capture_output=True,
    text=True,
    timeout=100,
  )
  assert done.returncode == 0, done.stderr


def test_quiet_imports_hold_back_notices_only(capfd):
  with environment.quiet_imports():
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called ...\n")
    os.write(2, b"I0000 00:00:1 1 cudart_stub.cc:31] Could not find cuda drivers\n")
    os.write(2, b"Segmentation fault\n")
  os.write(2, b"after\n")
  assert capfd.readouterr().err == "Segmentation fault\nafter\n"


PROGRAM = """
import os, sys
from launch.process import environment
environment.prepare()
import jax
print(jax.config.jax_compilation_cache_dir)
print(jax.jit(lambda x: x + 1)(1))
print("tensorflow" in sys.modules)
"""


def test_prepare_reaches_jax_and_says_nothing(tmp_path):
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=100,
  )
  assert done.stderr == ""
  assert done.stdout.splitlines()[1:] == ["2", "False"]
  assert done.stdout.startswith(str(tmp_path / "t5x_style" / "xla"))


LARGE_PAGES = """
import os, sys
from launch.process import environment
environment.take_large_pages()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.argv)
"""


@pytest.mark.parametrize(
  "platform, given, expected",
  [
    ("cpu", None, "glibc.malloc.hugetlb=1"),
    ("cpu", "glibc.malloc.arena_max=4", "glibc.malloc.arena_max=4:glibc.malloc.hugetlb=1"),
    ("cpu", "glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ("cuda", None, "None"),
  ],
)
def test_the_same_program_starts_again_with_large_pages(platform, given, expected):
  if not environment._has_large_pages():
    pytest.skip("the kernel or the C library of this machine has none to give")
  environ = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
  environ |= {"JAX_PLATFORMS": platform} | ({"GLIBC_TUNABLES": given} if given else {})
  command = [sys.executable, "-c", LARGE_PAGES, "an argument", "--flag=1"]
  with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
    output = process.stdout.read()
  # One process from beginning to end: who started it can still wait for it or end it.
  assert output == f"{process.pid} {expected} ['-c', 'an argument', '--flag=1']\n"
