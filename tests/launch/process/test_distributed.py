"""How a process finds the others of its job."""

import types

import pytest

from launch.process import distributed
from launch.process.errors import ConfigurationError


def arguments(coordinator_address=None, process_count=None, process_index=None, **environ):
  values = types.SimpleNamespace(
    coordinator_address=coordinator_address,
    process_count=process_count,
    process_index=process_index,
  )
  return distributed.initialize_arguments(values, environ)


def test_a_single_process():
  assert arguments() is None
  assert arguments(SLURM_NTASKS="1", TPU_WORKER_HOSTNAMES="localhost") is None
  assert arguments(SLURM_NTASKS="4") is None  # A batch job's own shell, not one of srun's tasks.


def test_flags_name_the_job():
  assert arguments("host:1", 2, 0) == {
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
def test_jax_recognises_the_job_of_a_cluster(environ):
  assert arguments(**environ) == {}


def test_variables_name_the_job():
  environ = {"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
  assert arguments(JAX_COORDINATOR_ADDRESS="host:1", **environ) == {
    "num_processes": 4,
    "process_id": 3,
  }


def test_incomplete_or_wrong_flags():
  with pytest.raises(ConfigurationError, match="=host names no port; write HOST:PORT"):
    arguments("host", 2, 1)
  with pytest.raises(ConfigurationError, match="--process_count without --coordinator_address, "):
    arguments(process_count=2)
  with pytest.raises(ConfigurationError, match="--process_index=2 of --process_count=2: "):
    arguments("host:1", 2, 2)
