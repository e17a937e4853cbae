"""Compares the reports of all processes: what is wrong, on which host, and a table to read."""

import collections
import statistics
from collections.abc import Callable, Iterable, Sequence

from t5x_style.errors import shortened
from t5x_style.hardware import find_accelerator

from ..checkpoints.output import size_text, table
from .report import Report

# Files' ages, certificates of buckets and the lines of logs are compared between hosts.
MOST_CLOCK_SECONDS = 5.0
LEAST_MEMORY = 2 << 30  # bytes; TensorFlow and a tokenizer alone need one
LEAST_DISK = 1 << 30
_SLOW = 0.5  # of the other hosts' speed: all wait for the slowest one in every step
_LOW_SHARE = 0.4  # of the published peak, which a large product should exceed by far
_EXTRA = {"gpu": "cuda", "tpu": "tpu"}


def problems(
  reports: Sequence[Report], model_dir: object = None, devices: int | None = None
) -> list[str]:
  """Returns what must not be: sentences with the host's name. [] if the job may start.

  Args:
    reports: of all processes, in the order of their indices.
    model_dir: the run's folder, for the messages.
    devices: how many devices the job has to have; None for any number.
  """
  checks = (_devices, _clocks, _arithmetic, _speed)
  found = [line for check in checks for line in check(reports)]
  seen = sum(report.devices for report in reports)
  if devices is not None and seen != devices:
    found.insert(
      0,
      f"The job has {_counted(seen, 'device', 's')} in {_counted(len(reports), 'process', 'es')}, "
      f"not {devices:,}.",
    )
  return [*found, *_model_dir(reports, model_dir)]


def warnings(reports: Sequence[Report]) -> list[str]:
  """Returns what may be meant so, or matters only to some runs."""
  found = []
  for index, report in enumerate(reports):
    name = _name(reports, index)
    if report.free_memory is not None and report.free_memory < LEAST_MEMORY:
      found.append(f"{name} has only {size_text(report.free_memory)} of free memory.")
    if report.free_disk is not None and report.free_disk < LEAST_DISK:
      found.append(f"{name} has only {size_text(report.free_disk)} of free disk for MODEL_DIR.")
    share = _share_of_peak(report)
    if share is not None and share < _LOW_SHARE:
      found.append(f"{name} computes products at only {share:.0%} of its devices' published speed.")
    used = sum(other.devices for other in reports if other.host == report.host)
    if report.platform == "gpu" and used < report.gpus:
      found.append(f"{name} has {report.gpus} GPUs, of which this job uses {used}.")
  return list(dict.fromkeys(found))


def summary(reports: Sequence[Report], took: float) -> str:
  """Returns the table of all processes, with one line above it.

  Args:
    took: the seconds of the preflight.
  """
  ahead = clock_differences(reports)
  rows = [
    [
      str(index),
      f"{report.devices} {report.platform}",
      f"{report.flops / 1e12:,.{0 if report.flops > 1e13 else 2}f}",
      "-" if (share := _share_of_peak(report)) is None else f"{share:.0%}",
      f"{ahead[index]:+.2f}",
      "-" if report.free_memory is None else size_text(report.free_memory),
      "-" if report.free_disk is None else size_text(report.free_disk),
      report.host,
    ]
    for index, report in enumerate(reports)
  ]
  headings = ["process", "devices", "TFLOP/s", "of peak", "clock, s", "memory", "disk", "host"]
  first = reports[0]
  devices = sum(report.devices for report in reports)
  heading, *lines = table(headings, rows).splitlines()
  return "\n".join(
    [
      f"Preflight of {_counted(len(reports), 'process', 'es')} in {took:.1f} s: "
      f"{_counted(devices, 'device', 's')} "
      f"({first.device_kind}); all of them add {size_text(first.all_reduce_bytes)} each in "
      f"{max(x.all_reduce_seconds for x in reports) * 1e3:.1f} ms.",
      heading,
      *shortened(lines),
    ]
  )


def clock_differences(reports: Sequence[Report]) -> list[float]:
  """Returns by how many seconds each clock is ahead of the median of all.

  Of several moments the one counts in which a process was least late.
  """
  moments = list(zip(*(report.times for report in reports), strict=True))
  if not moments:
    return [0.0] * len(reports)
  medians = [statistics.median_low(moment) for moment in moments]
  return [
    min((time - median for time, median in zip(report.times, medians, strict=True)), key=abs)
    for report in reports
  ]


def _counted(number: int, word: str, plural: str) -> str:
  return f"{number:,} {word}{plural if number != 1 else ''}"


def _name(reports: Sequence[Report], index: int) -> str:
  return f"Host {reports[index].host!r} (process {index})"


def _share_of_peak(report: Report) -> float | None:
  accelerator = find_accelerator(report.device_kind)
  return report.flops / accelerator.peak_flops if accelerator else None


def _most_common(values: Iterable[object]) -> object:
  return collections.Counter(values).most_common(1)[0][0]


def _devices(reports: Sequence[Report]) -> list[str]:
  found = []
  for index, report in enumerate(reports):
    if report.present != "cpu" and report.platform == "cpu":
      found.append(
        f"{_name(reports, index)} has a {report.present.upper()}, but JAX uses its CPU: install "
        f"'.[{_EXTRA[report.present]}]' there, and check its driver."
      )
  for what, value in (
    ("devices per process", lambda report: report.devices),
    ("the kind of devices", lambda report: report.device_kind),
  ):
    found += _different(reports, what, value)
  return found


def _different(
  reports: Sequence[Report], what: str, value: Callable[[Report], object]
) -> list[str]:
  usual = _most_common(map(value, reports))
  return [
    f"{_name(reports, index)} differs in {what}: {value(report)}, elsewhere {usual}."
    for index, report in enumerate(reports)
    if value(report) != usual
  ]


def _clocks(reports: Sequence[Report]) -> list[str]:
  return [
    f"{_name(reports, index)} has a clock that is {abs(seconds):,.1f} s "
    f"{'ahead of' if seconds > 0 else 'behind'} the others: set it, for example with chrony."
    for index, seconds in enumerate(clock_differences(reports))
    if abs(seconds) > MOST_CLOCK_SECONDS
  ]


def _arithmetic(reports: Sequence[Report]) -> list[str]:
  found = []
  for index, report in enumerate(reports):
    if report.wrong_products:
      found.append(f"{_name(reports, index)} computes wrong matrix products: replace this host.")
    if report.wrong_sum:
      found.append(
        f"{_name(reports, index)} got a wrong sum over all devices: check its network, or replace "
        "this host."
      )
  return found


def _speed(reports: Sequence[Report]) -> list[str]:
  """CPUs are not judged: other programs share them."""
  usual = statistics.median(report.flops for report in reports)
  return [
    f"{_name(reports, index)} computes at {report.flops / usual:.0%} of the other hosts' speed, "
    "and all would wait for it: end what else uses its devices, or replace this host."
    for index, report in enumerate(reports)
    if report.platform != "cpu" and report.flops < _SLOW * usual
  ]


def _model_dir(reports: Sequence[Report], model_dir: object) -> list[str]:
  found = [
    f"{_name(reports, index)} cannot write to MODEL_DIR = {str(model_dir)!r} "
    f"({report.model_dir_error})."
    for index, report in enumerate(reports)
    if report.model_dir_error
  ]
  for index, report in enumerate(reports):
    unseen = [other for other in report.unseen if not reports[other].model_dir_error]
    if unseen:
      other = unseen[0]
      found.append(
        f"{_name(reports, index)} does not see what process {other} on {reports[other].host!r} "
        f"wrote to MODEL_DIR = {str(model_dir)!r}: it has to be a folder that all hosts share, or "
        "gs://."
      )
  return found
