"""Injects faults into runs, several at a time, and judges what became of each."""

import concurrent.futures
import shutil
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.soak.outcomes import Failed, Fault, NotPossible
from tests.soak.references import References
from tests.soak.table import Result
from tests.soak.trial import Trial


def run(
  faults: Sequence[Fault], times: int, seed: int, folder: Path, keep: bool, jobs: int
) -> Iterator[Result]:
  """Injects each fault into `times` runs, and yields what became of each, the first to end first.

  Args:
    faults: all of them are injected once before the first one is injected a second time.
    times: runs for each of them.
    seed: of all that is random.
    folder: for everything that is written.
    keep: whether also the folders of runs that survived stay.
    jobs: runs at a time.
  """
  references = References(folder)
  references.model_dir(())  # Also fills the cache of compiled programs.
  pool = concurrent.futures.ThreadPoolExecutor(jobs)
  try:
    futures = [
      pool.submit(inject, fault, references, folder / fault.name / str(number), seed, keep)
      for number in range(1, times + 1)
      for fault in faults
    ]
    for future in concurrent.futures.as_completed(futures):
      yield future.result()
  finally:  # After Ctrl-C, the threads end because their processes do.
    references.stop()
    pool.shutdown(cancel_futures=True)


def inject(
  fault: Fault, references: References, folder: Path, seed: int, keep: bool = False
) -> Result:
  """Injects a fault into a run in a new folder, and returns what became of it."""
  start = time.monotonic()
  shutil.rmtree(folder, ignore_errors=True)
  trial = Trial(folder, references, f"{seed} {fault.name} {folder.name}")
  result = Result(fault, folder)
  try:
    outcome = fault.inject(trial)
    if outcome.kind not in fault.expected:
      raise Failed(f"{outcome.kind}, expected: {' or '.join(fault.expected)}. {outcome.note}")
    result.outcome = outcome
  except Failed as failure:
    result.failure = str(failure)
  except NotPossible as reason:
    result.not_possible = str(reason)
  except Exception:  # Of the soak program itself: shown as what it is.
    result.failure = traceback.format_exc()
  finally:
    trial.end()
  result.injected, result.seconds = trial.injected, time.monotonic() - start
  if not (keep or result.failure):
    shutil.rmtree(folder, ignore_errors=True)
  return result
