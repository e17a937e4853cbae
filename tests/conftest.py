"""What all tests share."""

import os

import jax
import pytest


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
