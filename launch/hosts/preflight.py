"""Checks all hosts of a job before its first step, and refuses to start with the host's name."""

import contextlib
import dataclasses
import json
import os
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator

from etils import epath

from t5x_style.errors import shortened

from ..process import command, environment, same_start
from ..process.errors import ConfigurationError
from . import model_dir_probe, report, verdict

_CLOCK_READINGS = 3
# The programs are compiled and run once in this time, also on a large pod.
_PATIENCE_SECONDS = 300.0


def is_due(requested: bool | None) -> bool:
  """Returns whether training begins with it: as requested, otherwise with several processes."""
  return same_start.place()[1] > 1 if requested is None else requested


def check(
  model_dir: epath.PathLike | None, say: Callable[[str], None], devices: int | None = None
) -> None:
  """Measures every host, and shows a table. All processes of the job call it.

  Args:
    model_dir: an existing folder that all hosts have to share; None checks no folder.
    say: shows a text; it is called in all processes with the same text.
    devices: how many devices the job has to have; None for any number.

  Raises:
    ConfigurationError: something is wrong; all processes say what, and on which host.
  """
  start = time.monotonic()
  index, count = same_start.place()
  times = []
  for reading in range(_CLOCK_READINGS):
    same_start.meet(f"clock {reading}")
    times.append(time.time())
  with _deadline():
    own = report.measure(model_dir, environment.accelerator(os.environ))
  error, unseen = "", tuple[int, ...]()
  if model_dir is not None:
    token = same_start.gathered("token", uuid.uuid4().hex)[0]
    error, unseen = model_dir_probe.probe(model_dir, index, count, token, same_start.meet)
  own = dataclasses.replace(own, times=tuple(times), model_dir_error=error, unseen=unseen)
  texts = same_start.gathered("preflight", json.dumps(dataclasses.asdict(own)))
  reports = [report.from_json(json.loads(text)) for text in texts]
  say(f"{verdict.summary(reports, time.monotonic() - start)}\n")
  if found := verdict.problems(reports, model_dir, devices):
    lines = "\n".join(shortened([f"  {line}" for line in found]))
    raise ConfigurationError(
      f"This job must not start so:\n{lines}\n--nopreflight starts without these checks."
    )
  if index == 0:
    for line in verdict.warnings(reports):
      warnings.warn(line, stacklevel=1)


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
  """Ends the process if the devices do not finish: a network that blocks them only makes wait."""
  timer = threading.Timer(
    _PATIENCE_SECONDS,
    command.end_at_once,
    [
      "The processes of this job found each other, but their devices did not finish a sum within "
      f"{_PATIENCE_SECONDS:.0f} seconds. Check that the firewall lets the hosts reach each other "
      "on all ports, and on GPUs which network NCCL chose (NCCL_DEBUG=INFO, NCCL_SOCKET_IFNAME)."
    ],
  )
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()
