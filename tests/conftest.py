"""Settings of all tests, and the fixtures that tests of several rooms use."""

import contextlib
import gc
import os
import resource
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tests import tiny


@pytest.fixture(scope="session", autouse=True)
def import_from_this_tree():
  """Processes that tests start in any folder import this tree; `launch` is not installed."""
  paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
  os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


@pytest.fixture(scope="session", autouse=True)
def compile_fast():
  """Turns XLA's optimisations off: they would take longer than the programs of tests run."""
  jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session", autouse=True)
def compile_each_program_once(tmp_path_factory):
  """Compiled programs are cached for the whole session: tests often build the same model."""
  base = tmp_path_factory.getbasetemp()
  session = (
    base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
  )  # one cache for all workers
  jax.config.update("jax_compilation_cache_dir", str(session / "xla"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(scope="session", autouse=True)
def keep_modules():
  """Excludes imported modules from garbage collection, which would scan them again and again."""
  gc.collect()
  gc.freeze()


@pytest.fixture
def on_platform(monkeypatch):
  """on_platform("gpu") builds programs without a mesh as for a GPU, and runs them on the CPU."""
  return lambda name: monkeypatch.setattr(jax, "default_backend", lambda: name)


@pytest.fixture
def no_room():
  """`with no_room(size):` is like a full disk: no file can grow beyond `size` bytes."""

  @contextlib.contextmanager
  def limited(size=1):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
      yield
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)

  return limited


@pytest.fixture(scope="session")
def on_eight_devices():
  """on_eight_devices(program, *arguments) runs a Python file on eight simulated CPU devices.

  Returns the lines that it prints; fails if it fails. `timeout` is in seconds.
  """
  environ = {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",  # As in compile_fast.
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
  }

  def run(program, *arguments, timeout=300):
    done = subprocess.run(
      [sys.executable, program, *arguments],
      env=os.environ | environ,
      capture_output=True,
      text=True,
      timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()

  return run


@pytest.fixture
def tiny_config():
  """tiny_config(architecture, model_dir, **changes) returns the configuration of a tiny run."""
  return tiny.config
