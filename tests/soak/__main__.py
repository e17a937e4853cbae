"""Injects faults into real training runs, many times, and prints what became of them.

    python -m tests.soak --list
    python -m tests.soak --times=10
    python -m tests.soak --faults=kill-save,disk-full --times=3 --seed=7

A run is `python -m launch.train` with tests/soak/run.gin, on text of Python's standard library. A
fault hits it at a random moment, and it is started again as a scheduler does that looks at the exit
code. Its end is compared with that of an undisturbed run: parameters, optimizer state, position in
the data and all records have to be equal to the bit. Where this cannot be, the fault itself says
what has to become of the run (--list). Everything else is a failure: its MODEL_DIR, and what its
processes printed, are kept.

Run it from the root of the working tree. A run takes one to two minutes on two quiet cores.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from launch.process import environment
from tests.soak import runner, table
from tests.soak.faults import ALL
from tests.soak.outcomes import Fault


def _chosen(names: str) -> list[Fault]:
  """Returns the faults that --faults names; "kill" stands for all that begin with "kill-"."""
  chosen = []
  for name in names.split(","):
    found = [x for x in ALL.values() if f"{x.name}-".startswith(f"{name}-")]
    if not found:
      raise SystemExit(f"--faults={name}: there is no such fault; --list shows all.")
    chosen += found
  return list(dict.fromkeys(chosen))


def main() -> int:
  parser = argparse.ArgumentParser(
    prog="python -m tests.soak",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--faults", default=",".join(ALL), help="names, or their first words")
  parser.add_argument("--times", type=int, default=1, help="runs for each fault")
  parser.add_argument("--seed", type=int, default=0, help="of the random moments")
  parser.add_argument(
    "--dir", type=Path, help="a folder for the runs; a temporary one if not given"
  )
  parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
  parser.add_argument("--list", action="store_true", help="print the faults, and run nothing")
  parser.add_argument("--keep", action="store_true", help="keep the folders of all runs")
  values = parser.parse_args()
  faults = _chosen(values.faults)
  if values.list:
    for fault in faults:
      print(f"{fault.name:<28} {fault.about}: {' or '.join(fault.expected)}")
    return 0
  environment.quieten(os.environ)
  folder = (values.dir or Path(tempfile.mkdtemp(prefix="soak-"))).absolute()
  print(f"Runs are in {folder}.", flush=True)
  start = time.monotonic()
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  results: list[table.Result] = []
  runs = runner.run(faults, values.times, values.seed, folder, values.keep, values.jobs)
  with contextlib.suppress(KeyboardInterrupt), contextlib.closing(runs):
    for result in runs:
      results.append(result)
      print(f"{len(results)}/{len(faults) * values.times}  {table.line(result)}", flush=True)
  results.sort(key=lambda result: faults.index(result.fault))
  print(f"\n{table.text(results)}\n\n{table.markdown(results)}\n")
  print(f"{(time.monotonic() - start) / 60:.0f} minutes, seed {values.seed}, {folder}")
  return int(len(results) < len(faults) * values.times or any(x.failure for x in results))


if __name__ == "__main__":
  sys.exit(main())
