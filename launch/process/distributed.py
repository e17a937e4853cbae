"""Joins this process to the others of its job, where flags or the environment name any."""

import errno
import os
import re
import socket
from collections.abc import Mapping
from typing import Any

from . import watchdog
from .environment import accelerator
from .errors import ConfigurationError

_FLAGS = ("coordinator_address", "process_count", "process_index")
# Launchers of jobs with several processes set one of these; JAX recognises their jobs by itself.
_CLUSTER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "JAX_NUM_PROCESSES")

# A process is considered dead after this many seconds without a heartbeat. JAX's default is 100.
_HEARTBEAT_SECONDS = 40
# Processes wait this long for each other at the end, or at an error.
_SHUTDOWN_SECONDS = 30


def connect(values: Any, environ: Mapping[str, str] = os.environ) -> None:
  """Joins the other processes of the job, if the flags or the environment name any.

  Args:
    values: flags with coordinator_address, process_count and process_index.

  Raises:
    ConfigurationError: only some of the flags are given, or the others cannot be reached.
  """
  arguments = initialize_arguments(values, environ)
  # A TPU machine may belong to a slice, which only JAX finds out, from the machine's metadata.
  perhaps = arguments is None and accelerator(environ) == "tpu"
  if arguments is None and not perhaps:
    return
  _check_the_port(arguments or {}, environ)
  watchdog.watch()
  import jax

  # The only implementation of collectives between CPU processes that needs no other package.
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  try:
    jax.distributed.initialize(
      **(arguments or {}),
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
      shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
    )
  except (RuntimeError, ValueError) as error:  # JAX's own errors are RuntimeErrors.
    if perhaps and re.search("(should|must) be defined", str(error)):
      watchdog.finished()
      return
    raise ConfigurationError(_not_connected(arguments or {}, error)) from error


def _check_the_port(arguments: Mapping[str, Any], environ: Mapping[str, str]) -> None:
  """Checks that process 0 can listen at its address; otherwise JAX may crash."""
  address = arguments.get("coordinator_address") or environ.get("JAX_COORDINATOR_ADDRESS", "")
  port = address.rpartition(":")[2]
  if arguments.get("process_id") != 0 or not port.isdigit():
    return
  both = socket.has_dualstack_ipv6()
  family = socket.AF_INET6 if both else socket.AF_INET
  try:
    socket.create_server(("", int(port)), family=family, dualstack_ipv6=both).close()
  except (OSError, OverflowError) as error:
    raise ConfigurationError(
      f"Process 0 cannot listen at the address {address}: {_why_not(error)}. Choose another port, "
      "the same in all processes, e.g. --coordinator_address=HOST:12355."
    ) from error


def _why_not(error: Exception) -> str:
  taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
  return "another program uses this port" if taken else str(error).rstrip(".")


def _not_connected(arguments: Mapping[str, Any], error: Exception) -> str:
  address = arguments.get("coordinator_address", "that the environment names")
  reason = str(error).strip().splitlines()[0]
  return (
    f"The processes of the job did not find each other at the address {address} ({reason}). Start "
    "all of them, give all the same --coordinator_address and --process_count, and each its own "
    "--process_index."
  )


def initialize_arguments(values: Any, environ: Mapping[str, str]) -> dict[str, Any] | None:
  """Returns the arguments of jax.distributed.initialize; None for a process that is the only one.

  They are {} where JAX finds out by itself. ConfigurationError: the flags are incomplete or wrong.
  """
  given = {name: getattr(values, name) for name in _FLAGS if getattr(values, name) is not None}
  if given:
    return _arguments_of_flags(given)
  if environ.get("JAX_COORDINATOR_ADDRESS") and environ.get("JAX_NUM_PROCESSES"):
    return {
      "num_processes": int(environ["JAX_NUM_PROCESSES"]),
      "process_id": int(environ.get("JAX_PROCESS_ID") or 0),
    }
  several = any(int(environ.get(name) or 1) > 1 for name in _CLUSTER_SIZES)
  # SLURM also sets the number of tasks in the shell of a batch job; only srun starts the tasks.
  several |= int(environ.get("SLURM_NTASKS") or 1) > 1 and "SLURM_STEP_NODELIST" in environ
  several |= "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ
  several |= "," in environ.get("TPU_WORKER_HOSTNAMES", "")
  return {} if several or "JAX_COORDINATOR_ADDRESS" in environ else None


def _arguments_of_flags(given: Mapping[str, Any]) -> dict[str, Any]:
  missing = [f"--{name}" for name in _FLAGS if name not in given]
  if missing:
    raise ConfigurationError(
      f"{', '.join(f'--{name}' for name in given)} without {', '.join(missing)}: a job of "
      "several processes needs all three, e.g. --coordinator_address=host0:1234 "
      "--process_count=2 --process_index=0."
    )
  address, count, index = (given[name] for name in _FLAGS)
  if index >= count:
    raise ConfigurationError(
      f"--process_index={index} of --process_count={count}: processes are counted from 0."
    )
  if not re.fullmatch(r".+:\d+", address):
    raise ConfigurationError(
      f"--coordinator_address={address} names no port; write HOST:PORT, e.g. host0:1234."
    )
  return {"coordinator_address": address, "num_processes": count, "process_id": index}
