"""A GPU day: everything that needs a GPU, the most valuable first, within a time limit.

    python -m launch.benchmark gpu --minutes=10 --to=gpu_day

Each part (gpu_parts.py) runs in a process of its own, which is ended after its time: one failure
stops no other part. FOLDER/gpu.json has the card, the driver, versions and every figure with its
shape, precision and formula of FLOPs; FOLDER/tables.md has the tables made from it. Both are
written after every part. FOLDER/PART.out and PART.log are what a part printed; its profiles are in
FOLDER/PART/.
What there was no time for is named; the same command again does what is left, and repeats what
failed.

It needs JAX for CUDA, torch and transformers, but no network, TensorFlow, SeqIO or Beam: the text
is Python's standard library. Without a GPU, or with --tiny, models are tiny, to try the command.
launch/clusters/README.md says how to bring what is missing to a machine without a network.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ..process import environment
from ..process.errors import ConfigurationError
from . import gpu_parts, gpu_results, gpu_tables
from .gpu_parts import Part

FLAGS = ("minutes", "to", "parts", "tiny")
COLUMNS = {
  "outcome": ("outcome", ""),
  "seconds": ("s", ",.0f"),
  "figures": ("figures", ",.0f"),
  "left_seconds": ("s left", ",.0f"),
}
LABELS = tuple(part.name for part in gpu_parts.parts(False))
_MINUTES = 10.0
_RESERVE_SECONDS = 5  # to write the results
_ENOUGH_TO_TRY = 1  # second, for tiny parts


def measure(
  minutes: float | None = None,
  to: str | None = None,
  parts: str | None = None,
  tiny: bool = False,
) -> Iterator[dict[str, Any]]:
  """Yields a row for each part that was started or left out; see launch.benchmark.

  Raises:
    ConfigurationError: --to is missing, or holds results of another machine.
    SystemExit: a part failed; it is raised after the last part.
  """
  if not to:
    raise ConfigurationError("Where to? Write e.g. --to=gpu_day.")
  end = time.monotonic() + 60 * (minutes or _MINUTES)
  tiny = tiny or environment.accelerator(os.environ) != "gpu"
  folder = Path(os.path.expanduser(to)).absolute()
  results = gpu_results.Results.open(folder, tiny)
  _say(f"{results.title}; results: {folder}", end)
  failed = []
  for part in gpu_parts.chosen(tiny, parts):
    if results.is_done(part.name):
      _say(f"{part.name}: done by an earlier start", end)
      continue
    found = _run(part, folder, end, tiny)
    results.add(part.name, found)
    (folder / "tables.md").write_text(gpu_tables.text(results.content))
    failed += [part.name] if found["outcome"] in ("failed", "ended") else []
    yield {
      "group": results.title,
      "label": part.name,
      "outcome": found["outcome"],
      "seconds": found["seconds"],
      "figures": len(found["rows"]),
      "left_seconds": max(0.0, end - time.monotonic()),
    }
  _say(gpu_results.left_out(results.content), end)
  if failed:
    _say(f"Failed: {', '.join(failed)}; see their logs in {folder}", end)
    raise SystemExit(1)


def _run(part: Part, folder: Path, end: float, tiny: bool) -> dict[str, Any]:
  """Runs a part, as long as it may, and returns what there is to say about it."""
  left = end - time.monotonic() - _RESERVE_SECONDS
  found: dict[str, Any] = {"about": part.about, "seconds": 0.0, "rows": []}
  if part.missing:
    return found | {"outcome": "left out", "why": part.missing}
  if left < (_ENOUGH_TO_TRY if tiny else part.least):
    return found | {"outcome": "left out", "why": "no time was left"}
  own = folder / part.name.replace(" ", "-")
  shutil.rmtree(own, ignore_errors=True)  # of an earlier start
  own.mkdir()
  command = [sys.executable, *(word.replace("{to}", str(own)) for word in part.arguments)]
  limit = min(left, part.most)
  _say(f"{part.name}: {part.about}, at most {limit:,.0f} s", end)
  begun = time.monotonic()
  code = _ended(command, part.environ, own, limit)
  output, errors = (own.with_suffix(suffix).read_text() for suffix in (".out", ".log"))
  rows = gpu_results.rows_of(output)
  if (report := own / "tests.xml").exists():
    rows.append(_counted(report))
  found |= {
    "command": " ".join(["python", *command[1:]]),
    "seconds": time.monotonic() - begun,
    "rows": rows,
    "outcome": "done" if code == 0 else "ended" if code is None else "failed",
  }
  if code is None:
    found["why"] = f"it took longer than {limit:,.0f} s"
  elif code:
    found["why"] = f"code {code}: {gpu_results.last_line(errors or output)}"
  return found


def _ended(
  command: Sequence[str], environ: Mapping[str, str], own: Path, limit: float
) -> int | None:
  """Runs a command and returns its exit code; None if it was ended after `limit` seconds.

  Args:
    own: its outputs go to this path with .out and .log.
  """
  output, errors = own.with_suffix(".out"), own.with_suffix(".log")
  environ = {**os.environ, "PYTHONUNBUFFERED": "1", **environ}
  with output.open("w") as out, errors.open("w") as err:
    process = subprocess.Popen(command, stdout=out, stderr=err, env=environ, start_new_session=True)
    try:
      return process.wait(limit)
    except subprocess.TimeoutExpired:
      return None
    finally:
      # With all processes that it started, which would keep the GPU's memory.
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
      process.wait()


_KINDS = ("failure", "error", "skipped")


def _counted(report: Path) -> dict[str, Any]:
  """Returns a row with the counts of pytest's report, and the names of the tests that failed."""
  cases = list(ElementTree.parse(report).getroot().iter("testcase"))
  kinds = {kind: [case for case in cases if case.find(kind) is not None] for kind in _KINDS}
  failed = [f"{x.get('classname')}.{x.get('name')}" for x in kinds["failure"] + kinds["error"]]
  skipped = len(kinds["skipped"])
  return {
    "group": "Tests of kernels",
    "label": "tests",
    "passed": len(cases) - skipped - len(failed),
    "skipped": skipped,
    "failed": failed,
  }


def _say(text: str, end: float) -> None:
  """Prints a line of progress with the time that is left, beside the table of the results."""
  left = max(0.0, end - time.monotonic())
  print(f"[{left:4,.0f} s left] {text}", file=sys.stderr, flush=True)
