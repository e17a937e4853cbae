"""Checkpoints that are damaged between two starts: the newest good one is used, none is deleted."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from launch.process.exit_codes import ExitCode
from tests.soak import comparison
from tests.soak.outcomes import Failed, Fault, Outcome
from tests.soak.trial import SAVE_PERIOD, Process, Trial, last_words

_DAMAGES = 2  # of one run

# Damages the newest of some steps; returns the folders that have to be set aside, [] if the damage
# may be one that changes nothing.
Damage = Callable[[Trial, list[int]], list[Path]]


def _array_file(trial: Trial, step: Path) -> Path:
  """Returns a file of arrays: in these the numbers are."""
  return trial.random.choice(sorted(x for x in (step / "state").glob("**/d/*") if x.is_file()))


def _cut(path: Path) -> None:
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _array_files_changed(change: Callable[[Path], object]) -> Damage:
  """Returns a damage of all files with arrays of the newest step."""

  def damage(trial: Trial, steps: list[int]) -> list[Path]:
    step = trial.checkpoints / str(steps[-1])
    for path in (step / "state" / "d").iterdir():
      change(path)
    return [step]

  return damage


def _one_bit_flipped(trial: Trial, steps: list[int]) -> list[Path]:
  path = _array_file(trial, trial.checkpoints / str(steps[-1]))
  _flip(trial, path)
  return []  # It may hit bytes that no array has.


def _flip(trial: Trial, path: Path) -> None:
  data = bytearray(path.read_bytes())
  data[trial.random.randrange(len(data))] ^= 1 << trial.random.randrange(8)
  path.write_bytes(data)


def _stream_cut(trial: Trial, steps: list[int]) -> list[Path]:
  step = trial.checkpoints / str(steps[-1])
  _cut(step / "data" / "stream_00000")
  return [step]


def _empty_folder(trial: Trial, steps: list[int]) -> list[Path]:
  step = trial.checkpoints / str(steps[-1] + SAVE_PERIOD)
  step.mkdir()
  return [step]


def _metadata_is_a_list(trial: Trial, steps: list[int]) -> list[Path]:
  step = trial.checkpoints / str(steps[-1])
  (step / trial.random.choice(("run/metadata", "state/_METADATA"))).write_text(json.dumps([]))
  return [step]


def _part_of_another_step(part: str) -> Damage:
  def damage(trial: Trial, steps: list[int]) -> list[Path]:
    newest, other = (trial.checkpoints / str(step) for step in (steps[-1], steps[-2]))
    shutil.rmtree(newest / part)
    shutil.copytree(other / part, newest / part)
    return [newest]

  return damage


def _any_file(trial: Trial, steps: list[int]) -> list[Path]:
  step = trial.checkpoints / str(steps[-1])
  path = trial.random.choice(sorted(x for x in step.rglob("*") if x.is_file()))
  flip = (lambda x: _flip(trial, x)) if path.stat().st_size else Path.unlink
  trial.random.choice((_cut, _fill_with_zeros, Path.unlink, flip))(path)
  return []  # Some files are needed by nothing.


def _fill_with_zeros(path: Path) -> None:
  path.write_bytes(bytes(path.stat().st_size))


def _newest(damage: Damage) -> Callable[[Trial], Outcome]:
  def inject(trial: Trial) -> Outcome:
    process = trial.start()
    for _ in range(_DAMAGES):
      if not trial.trains_until(process, 25) or not process.until(lambda: len(trial.steps()) > 1):
        break
      process.kill()
      files = {path: _files(path) for path in damage(trial, trial.steps())}
      trial.injected += 1
      process = trial.start()
      _check_set_aside(process, files)
    return trial.survived_exactly(process)

  return inject


def _check_set_aside(process: Process, files: dict[Path, list[str]]) -> None:
  """Checks that the start has renamed and named each of these folders, and that it is whole."""
  process.until(process.says("A model that knows only"))
  text = process.text()
  for path, names in files.items():
    aside = sorted(path.parent.glob(f"damaged-{path.name}*"))
    if not aside:
      raise Failed(f"{path.name} is damaged and was not set aside: {last_words(text)}")
    if f"damaged-{path.name}" not in text:
      raise Failed(f"nothing is said of {aside[-1].name}")
    if missing := set(names) - set(_files(aside[-1])):
      raise Failed(f"{aside[-1].name} lacks {sorted(missing)[0]}, which {path.name} had")


def _files(folder: Path) -> list[str]:
  return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _all(trial: Trial) -> Outcome:
  process = trial.start()
  trial.trains_until(process)
  process.kill()
  steps = trial.steps()
  for step in steps:
    for path in (trial.checkpoints / str(step) / "state" / "d").iterdir():
      _cut(path)
  trial.injected += 1
  outcome = trial.stopped_clearly(
    trial.start(), ExitCode.MISTAKE, re.escape(str(trial.checkpoints)), "nothing was changed"
  )
  for step in steps:
    if not list(trial.checkpoints.glob(f"*{step}")):
      raise Failed(f"the damaged checkpoint {step} is gone")
  if comparison.last_step(trial.model_dir / "metrics.jsonl") < steps[-1]:
    raise Failed("records were deleted")
  return outcome


def _compiled_programs(trial: Trial) -> Outcome:
  """JAX's cache of compiled programs, which a kill or a full disk can leave cut."""
  folder = trial.folder / "compiled"
  trial.environ = {"JAX_COMPILATION_CACHE_DIR": str(folder)}
  process = trial.start()
  trial.trains_until(process)
  process.kill()
  for path in folder.glob("*-cache"):
    _cut(path)
  trial.injected += 1
  return trial.survived_exactly()


def _fault(name: str, about: str, damage: Damage) -> Fault:
  return Fault(name, about, ("exact",), _newest(damage))


FAULTS = (
  _fault("damage-cut", "newest checkpoint: array files cut in half", _array_files_changed(_cut)),
  _fault("damage-zeros", "array files full of zeros", _array_files_changed(_fill_with_zeros)),
  _fault("damage-deleted", "array files deleted", _array_files_changed(Path.unlink)),
  _fault("damage-bit", "one bit of an array file flipped", _one_bit_flipped),
  _fault("damage-stream", "the position in the data cut in half", _stream_cut),
  _fault("damage-empty", "an empty folder named like a step", _empty_folder),
  _fault("damage-metadata", "metadata a list", _metadata_is_a_list),
  _fault("damage-other-state", "the state of another step", _part_of_another_step("state")),
  _fault("damage-other-data", "the position of another step", _part_of_another_step("data")),
  _fault("damage-any", "any file cut, filled with zeros, deleted, or one bit flipped", _any_file),
  Fault("damage-compiled", "compiled programs cut in half", ("exact",), _compiled_programs),
  Fault("damage-all", "all checkpoints damaged", ("stopped",), _all),
)
