"""How a process finds the others of its job."""

import types

import pytest

from launch.configuration.errors import ConfigurationError
from launch.process import distributed


def peers(coordinator_address=None, process_count=None, process_index=None, **environ):
  values = types.SimpleNamespace(
    coordinator_address=coordinator_address,
    process_count=process_count,
    process_index=process_index,
  )
  return distributed.initialize_arguments(values, environ)


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
