"""What reports of several processes say: what is wrong, on which host."""

import dataclasses

import pytest

from launch.hosts import verdict
from launch.hosts.report import Report

GOOD = Report(
  host="a",
  platform="tpu",
  device_kind="TPU v5 lite",
  devices=4,
  present="tpu",
  gpus=0,
  flops=150e12,
  wrong_products=False,
  wrong_sum=False,
  all_reduce_bytes=1 << 24,
  all_reduce_seconds=0.002,
  free_memory=100 << 30,
  free_disk=None,
  times=(1000.0, 1001.0),
)


def reports(**last):
  """Three processes on the hosts a, b and c; the last one has other values."""
  hosts = [dataclasses.replace(GOOD, host=host) for host in "abc"]
  return [*hosts[:2], dataclasses.replace(hosts[2], **last)]


def test_equal_hosts_may_start():
  assert verdict.problems(reports(), "/model", devices=12) == []
  assert verdict.warnings(reports()) == []


@pytest.mark.parametrize(
  ("last", "words"),
  [
    ({"devices": 3}, "differs in devices per process: 3, elsewhere 4."),
    ({"device_kind": "TPU v4"}, "differs in the kind of devices: TPU v4, elsewhere TPU v5 lite."),
    ({"times": (1125.5, 1126.5)}, "has a clock that is 125.5 s ahead of the others: set it"),
    ({"times": (990.0, 991.5)}, "has a clock that is 9.5 s behind the others: set it"),
    ({"wrong_products": True}, "computes wrong matrix products: replace this host."),
    ({"wrong_sum": True}, "got a wrong sum over all devices: check its network"),
    ({"flops": 60e12}, "computes at 40% of the other hosts' speed"),
    (
      {"model_dir_error": "PermissionError: no"},
      "cannot write to MODEL_DIR = '/model' (Permission",
    ),
    ({"unseen": (0, 1)}, "does not see what process 0 on 'a' wrote to MODEL_DIR = '/model'"),
  ],
)
def test_a_host_that_must_not_start_is_named(last, words):
  (line,) = verdict.problems(reports(**last), "/model")
  assert line.startswith("Host 'c' (process 2) ") and words in line


def test_an_accelerator_that_jax_does_not_use():
  without = {"platform": "cpu", "device_kind": "cpu", "present": "gpu", "devices": 1}
  lines = verdict.problems(reports(**without))
  assert "has a GPU, but JAX uses its CPU: install '.[cuda]' there" in lines[0]


def test_the_number_of_devices():
  assert verdict.problems(reports(), devices=16) == [
    "The job has 12 devices in 3 processes, not 16."
  ]


def test_a_process_that_was_late_once_has_the_right_time():
  assert verdict.problems(reports(times=(1030.0, 1001.0))) == []


def test_cpus_are_not_judged_by_their_speed():
  cpu = dataclasses.replace(GOOD, platform="cpu", device_kind="cpu", present="cpu")
  assert verdict.problems([cpu, dataclasses.replace(cpu, flops=1e9)]) == []


def test_only_the_process_that_cannot_write_is_named():
  first = dataclasses.replace(GOOD, model_dir_error="OSError: full")
  (line,) = verdict.problems([first, dataclasses.replace(GOOD, host="b", unseen=(0,))], "/model")
  assert line.startswith("Host 'a' (process 0) cannot write")


def test_what_may_be_meant_so_is_a_warning():
  assert verdict.warnings(reports(free_memory=1_500_000_000, free_disk=500_000_000)) == [
    "Host 'c' (process 2) has only 1.5 GB of free memory.",
    "Host 'c' (process 2) has only 500 MB of free disk for MODEL_DIR.",
  ]
  gpu = {"platform": "gpu", "device_kind": "NVIDIA H200", "gpus": 8, "flops": 98.9e12}
  assert verdict.warnings(reports(**gpu)) == [
    "Host 'c' (process 2) computes products at only 10% of its devices' published speed.",
    "Host 'c' (process 2) has 8 GPUs, of which this job uses 4.",
  ]


def test_the_table():
  heading, names, *rows = verdict.summary(reports(times=(1000.25, 1001.25)), 3.21).splitlines()
  assert heading == (
    "Preflight of 3 processes in 3.2 s: 12 devices (TPU v5 lite); "
    "all of them add 16.8 MB each in 2.0 ms."
  )
  assert names.split("  ")[-1] == "host"
  assert rows[2].split() == ["2", "4", "tpu", "150", "76%", "+0.25", "107", "GB", "-", "c"]
