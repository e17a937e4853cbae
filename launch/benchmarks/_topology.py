"""TPUs to compile for on a machine that has none: their compiler is the package libtpu."""

import importlib.util
import os

import jax
from jax.experimental import topologies

# Without the first libtpu may wait for a metadata server, without the second for another process
# that compiles; the others keep it from asking where it is.
_ENVIRONMENT = {
  "TPU_SKIP_MDS_QUERY": "1",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_ACCELERATOR_TYPE": "v5p-8",
  "TPU_WORKER_HOSTNAMES": "localhost",
}


def available() -> bool:
  """Whether programs can be compiled ahead of time here: libtpu is installed, no TPU is."""
  return jax.default_backend() != "tpu" and importlib.util.find_spec("libtpu") is not None


def devices(topology: str) -> list[jax.Device]:
  """The devices of a topology such as "v5e:4x4"."""
  for name, value in _ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
