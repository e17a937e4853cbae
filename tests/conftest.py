"""What all tests share."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tests import tiny


@pytest.fixture(scope="session", autouse=True)
def compile_fast():
  """Most of a test's time would go to LLVM polishing programs that run once."""
  jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session", autouse=True)
def compile_each_program_once(tmp_path_factory):
  """Tests that build the same model again take its programs from a cache, as real runs do."""
  base = tmp_path_factory.getbasetemp()
  session = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # one for all workers
  jax.config.update("jax_compilation_cache_dir", str(session / "xla"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(scope="session", autouse=True)
def keep_modules():
  """What was imported stays: the collector of garbage need not look through it again and again."""
  gc.collect()
  gc.freeze()


@pytest.fixture
def on_platform(monkeypatch):
  """on_platform("gpu"): where no mesh is in force, programs are those of a GPU; they run here."""
  return lambda name: monkeypatch.setattr(jax, "default_backend", lambda: name)


@pytest.fixture(scope="session")
def on_eight_devices():
  """on_eight_devices(program, *arguments): what it prints on eight simulated devices, by lines."""

  environ = {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",  # As here: see compile_fast.
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    "PYTHONPATH": str(Path(__file__).parents[1]),
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
  """tiny_config(architecture, model_dir, **changes): the configuration of a tiny run."""
  return tiny.config
