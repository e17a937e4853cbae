"""Manifests of JobSets, Kubernetes' jobs of several hosts that start and fail together, for GKE."""

import math
import re
from collections.abc import Sequence
from typing import Any

import yaml

from t5x_style.errors import UserError
from t5x_style.planning import topologies

from ..process.exit_codes import ExitCode
from .restarts import MOST_ATTEMPTS, attempts_after

# What GKE calls them: the labels of nodes in GKE's documentation of TPUs and GPUs.
_TPUS = {
  "v4": "tpu-v4-podslice",
  "v5e": "tpu-v5-lite-podslice",
  "v5p": "tpu-v5p-slice",
  "v6e": "tpu-v6e-slice",
}
_GPUS = {
  "l4": "nvidia-l4",
  "a100": "nvidia-tesla-a100",
  "a100-80": "nvidia-a100-80gb",
  "h100": "nvidia-h100-80gb",
  "h100-mega": "nvidia-h100-mega-80gb",
  "h200": "nvidia-h200-141gb",
}
# Chips of a machine that is a slice by itself; larger slices have four chips on each machine.
_ON_ONE_MACHINE = {"v4": (4,), "v5e": (1, 4, 8), "v5p": (4,), "v6e": (1, 4, 8)}
_CHIPS_OF_A_HOST = 4
_JOBS = "hosts"  # the name of the replicated job, which is part of the names of hosts
_PORT = 12355
_GRACE_SECONDS = 120
# Exit codes after which the run is not started again: it would only fail again, or was stopped.
_FINAL_CODES = [code.value for code in ExitCode if code and attempts_after(code) == 1]
# JobSet counts the restarts of the whole life of the job, also those after days of training.
_MOST_RESTARTS = {False: MOST_ATTEMPTS, True: 200}  # with --spot: nodes are taken often
# Each slice gets a pool of nodes for itself.
_ONE_POOL = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
_SPOT = "cloud.google.com/gke-spot"


def manifest(
  name: str, topology: str, slices: int, image: str, spot: bool, flags: Sequence[str]
) -> str:
  """Returns the YAML of a JobSet that trains.

  Args:
    name: of the JobSet.
    topology: a TPU slice as in "v5e:4x4", or GPUs: "h100:8" is one node, "h100:2x8" is two.
    slices: how many TPU slices.
    image: the container image, with this package in it.
    spot: whether nodes may be taken back at any time.
    flags: those of launch.train.

  Raises:
    UserError: there is no such topology.
  """
  kind, _, shape = topology.lower().partition(":")
  if kind in _TPUS:
    topologies.parse(topology, slices)
    job, annotations = _tpu(kind, shape, slices), _ONE_POOL
  elif kind in _GPUS and re.fullmatch(r"(\d+x)?\d+", shape) and slices == 1:
    job, annotations = _gpu(name, kind, shape), {}
  else:
    raise UserError(
      f"--topology={topology} with --slices={slices} is not known here. Write a TPU slice, such as "
      f"v5e:4x4, or nodes x GPUs, such as h100:2x8; there are {', '.join((*_TPUS, *_GPUS))}."
    )
  pod = job["template"]["spec"]["template"]["spec"]
  container = pod["containers"][0]
  command = ["python", "-m", "t5x_style.launch.train", f"--grace_seconds={_GRACE_SECONDS - 10}"]
  pod["containers"][0] = {
    "name": "train",
    "image": image,
    "command": [*command, *flags],
  } | container
  if spot:
    pod["nodeSelector"][_SPOT] = "true"
    pod["tolerations"] = [{"key": _SPOT, "operator": "Equal", "value": "true"}]
  metadata: dict[str, Any] = {"name": name} | ({"annotations": annotations} if annotations else {})
  whole = {
    "apiVersion": "jobset.x-k8s.io/v1alpha2",
    "kind": "JobSet",
    "metadata": metadata,
    "spec": {
      "failurePolicy": {
        "maxRestarts": _MOST_RESTARTS[spot],
        "rules": [
          {
            "name": "would_fail_again",
            "action": "FailJobSet",
            "onJobFailureReasons": ["PodFailurePolicy"],
          }
        ],
      },
      "replicatedJobs": [job],
    },
  }
  return yaml.safe_dump(whole, sort_keys=False, width=100)


def _tpu(kind: str, shape: str, slices: int) -> dict[str, Any]:
  """Returns the replicated job of TPU slices; GKE sets the variables that JAX reads."""
  chips = math.prod(map(int, shape.split("x")))
  per_host = chips if chips in _ON_ONE_MACHINE[kind] else _CHIPS_OF_A_HOST
  container = {
    # The devices of TPUs belong to root, and their memory is locked.
    "securityContext": {"privileged": True, "runAsUser": 0},
    "ports": [{"containerPort": port} for port in (8080, 8471)],
    "resources": {"limits": {"google.com/tpu": per_host}},
  }
  selector = {
    "cloud.google.com/gke-tpu-accelerator": _TPUS[kind],
    "cloud.google.com/gke-tpu-topology": shape,
  }
  return _job(slices, chips // per_host, selector, container)


def _gpu(name: str, kind: str, shape: str) -> dict[str, Any]:
  """Returns the replicated job of nodes with GPUs, one process on each."""
  *nodes, gpus = map(int, shape.split("x"))
  hosts = nodes[0] if nodes else 1
  index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
  container = {
    "env": [
      {"name": "JAX_COORDINATOR_ADDRESS", "value": f"{name}-{_JOBS}-0-0.{name}:{_PORT}"},
      {"name": "JAX_NUM_PROCESSES", "value": str(hosts)},
      {"name": "JAX_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": index}}},
    ],
    "resources": {"limits": {"nvidia.com/gpu": gpus}},
    # NCCL's processes on one machine exchange data through it.
    "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
  }
  job = _job(1, hosts, {"cloud.google.com/gke-accelerator": _GPUS[kind]}, container)
  job["template"]["spec"]["template"]["spec"]["volumes"] = [
    {"name": "shared-memory", "emptyDir": {"medium": "Memory"}}
  ]
  return job


def _job(
  replicas: int, hosts: int, selector: dict[str, str], container: dict[str, Any]
) -> dict[str, Any]:
  """Returns a replicated job. When one host fails, all of them are started again."""
  return {
    "name": _JOBS,
    "replicas": replicas,
    "template": {
      "spec": {
        "completionMode": "Indexed",
        "parallelism": hosts,
        "completions": hosts,
        "backoffLimit": 0,
        "podFailurePolicy": {
          "rules": [
            {
              "action": "FailJob",
              "onExitCodes": {
                "containerName": "train",
                "operator": "In",
                "values": list(_FINAL_CODES),
              },
            }
          ]
        },
        "template": {
          "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "nodeSelector": dict(selector),
            "containers": [container],
          }
        },
      }
    },
  }
