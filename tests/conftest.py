"""What all tests share."""

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compile_each_program_once(tmp_path_factory):
  """Tests that build the same model again take its programs from a cache, as real runs do."""
  jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
