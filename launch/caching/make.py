"""Makes a token cache: what is done is skipped, and the manifest is written last."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath

from t5x_style.codecs import vocabulary_folder
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.errors import StorageError, UserError
from t5x_style.token_cache import manifest, verification
from t5x_style.token_cache.manifest import UNFINISHED, Manifest

from ..process import environment, whole_files
from . import plan, progress, statistics, steps
from .plan import Plan

_POLL_SECONDS = 0.5
_LOG = "beam.log"
_WARNINGS = 1000  # that are kept of all pieces of work
_LOG_LINES = 12  # that are shown of the log of a pipeline that failed


class Request(NamedTuple):
  """What to make.

  Attributes:
    folder: of the cache.
    plan: what the workers know.
    settings: {"corpus", "vocabulary", "options", ...}: the same on each start, or it is refused.
    codec: of the vocabulary.
    eos_id: in the numbers that are stored.
    workers: processes of Beam's direct runner.
    beam_flags: choose another runner.
  """

  folder: Path
  plan: Plan
  settings: Mapping[str, Any]
  codec: TextCodec
  eos_id: int
  workers: int
  beam_flags: Sequence[str]


def make(request: Request) -> Manifest:
  """Makes the cache, or what is left of it; does nothing if it is there already.

  Raises:
    UserError: the folder holds something else, another process makes this cache, or a document
      cannot be read.
    StorageError: the disk is full; the same command resumes.
  """
  folder = request.folder
  if not _beam_is_installed():
    raise UserError("making a token cache needs Apache Beam: pip install 't5x_style[cache]'.")
  if (folder / manifest.FILE).exists():
    return _already_made(request)
  _check_folder(folder)
  (folder / UNFINISHED).mkdir(parents=True, exist_ok=True)
  with _locked(folder):
    _begin(request)
    plan_ = plan.read(folder)
    sizes = [piece.size for piece in plan_.pieces]
    _run(request, steps.TOKENIZE, "tokenised", sizes)
    done = plan.done_pieces(folder, plan_)
    planned = plan.write_merging(folder, done, request.settings["options"]["shards"])
    if not planned:
      raise UserError("the corpus has no document with a token; " + _reasons(done))
    _run(request, steps.MERGE, "written", [1] * len(planned))
    made = _finish(request, plan_, done)
  _remove_unfinished(folder)
  return made


def _beam_is_installed() -> bool:
  return importlib.util.find_spec("apache_beam") is not None


def _already_made(request: Request) -> Manifest:
  """Returns the manifest of the cache that is there, if it is the one that is to be made."""
  made = manifest.read(request.folder)
  if made.options.get("settings") != _digest(request.settings):
    raise UserError(
      f"{request.folder} holds a token cache that was made from another corpus, with another "
      "vocabulary or other options; nothing is overwritten: write --to=ANOTHER_FOLDER, or remove "
      "it first."
    )
  verification.check_samples(request.folder, made)
  _remove_unfinished(request.folder)
  return made


def _check_folder(folder: Path) -> None:
  """Raises UserError if a folder holds files that are not those of a cache."""
  if folder.exists() and not folder.is_dir():
    raise UserError(f"--to={folder} is a file; write the name of a new folder.")
  if folder.is_dir() and not (folder / UNFINISHED).is_dir() and (names := os.listdir(folder)):
    raise UserError(
      f"--to={folder} holds other files, such as {min(names)!r}, and no token cache; write the "
      "name of a new folder."
    )


def _begin(request: Request) -> None:
  """Writes the plan, or checks that it is the one of an earlier start."""
  before = plan.read_settings(request.folder)
  settings = json.loads(json.dumps(request.settings))
  if before is None:
    plan.write(request.folder, request.plan, request.codec, settings)
    return
  different = sorted(k for k in settings.keys() | before.keys() if settings.get(k) != before.get(k))
  if different:
    raise UserError(
      f"{request.folder} holds a token cache that is not finished and was begun with another "
      + " and another ".join(
        f"{name} ({json.dumps(before.get(name))} instead of {json.dumps(settings.get(name))})"
        for name in different
      )
      + ". Start the same command as before to resume it, write --to=ANOTHER_FOLDER, or remove "
      "this folder."
    )


def _run(request: Request, step: str, title: str, sizes: Sequence[int]) -> None:
  """Does what is left of a step, and shows its progress.

  Args:
    sizes: of the pieces of work, of which the sum is the whole.
  """
  folder = request.folder
  errors = plan.folders(folder)["errors"]
  for file in errors.glob("*.json"):
    file.unlink()
  left = steps.left(folder, step)
  if not left:
    return
  total = sum(sizes)
  with (
    progress.shown(title, total, total - sum(sizes[n] for n in left)) as shown,
    _pipeline(request, step) as running,
  ):
    while running.poll() is None:
      time.sleep(_POLL_SECONDS)
      shown.update(total - sum(sizes[n] for n in steps.left(folder, step)))
  _check_errors(folder)
  if running.returncode or steps.left(folder, step):
    log = folder / UNFINISHED / _LOG
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    raise UserError(
      f"the Beam pipeline ended with code {running.returncode} before all was {title}. The same "
      f"command resumes. The end of {log}:\n" + "\n".join(f"  {line}" for line in lines)
    )


@contextlib.contextmanager
def _pipeline(request: Request, step: str) -> Iterator[subprocess.Popen[bytes]]:
  """Starts the process of a pipeline, which ends with this one; kills it if it still runs."""
  search = os.pathsep.join(path or os.getcwd() for path in sys.path)
  command = [sys.executable, "-m", f"{environment.PACKAGE}.caching.pipeline"]
  arguments = [str(request.folder), step, str(request.workers), *request.beam_flags]
  threads = {} if request.workers == 1 else {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
  with (request.folder / UNFINISHED / _LOG).open("ab") as log:
    process = subprocess.Popen(
      [*command, *arguments],
      stdin=subprocess.PIPE,
      stdout=log,
      stderr=log,
      start_new_session=True,
      env={**os.environ, **threads, "PYTHONPATH": search},
    )
    try:
      yield process
    finally:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
      process.wait()


def _check_errors(folder: Path) -> None:
  """Raises the first error that a worker wrote."""
  for file in sorted(plan.folders(folder)["errors"].glob("*.json")):
    error = json.loads(file.read_text())
    if error["no_room"]:
      raise StorageError(
        f"There is no room in {folder} ({error['message']}); make room and start the same command "
        "again: it resumes."
      )
    raise UserError(error["message"])


def _finish(request: Request, plan_: Plan, done: Mapping[int, plan.Done]) -> Manifest:
  """Writes all but the shards, and the manifest last."""
  folder, settings = request.folder, request.settings
  for file in folder.glob(".*.tmp"):  # of workers that were killed
    file.unlink(missing_ok=True)
  whole_files.write(folder / manifest.SOURCES, json.dumps(plan_.files))
  words = folder / vocabulary_folder.FOLDER
  vocabulary_folder.write(epath.Path(words), request.codec, settings["vocabulary"])
  shards = plan.done_shards(folder)
  splits: dict[str, list] = {}
  counts: dict[str, list] = {}
  for shard in plan.read_shards(folder):
    facts, counted = shards[shard.name]
    splits.setdefault(shard.split, []).append(facts)
    counts.setdefault(shard.split, []).append(counted)
  files = [folder / manifest.SOURCES, *sorted(words.iterdir())]
  made = Manifest(
    corpus=settings["corpus"],
    vocabulary={
      "identity": settings["vocabulary"],
      "ids": plan_.ids,
      "eos_id": request.eos_id,
      "unknown_id": plan_.unknown_id,
    },
    targets=plan_.targets,
    options={**settings["options"], "settings": _digest(settings)},
    statistics={
      "splits": {split: statistics.total(each) for split, each in counts.items()},
      "left_out": plan.total(x.left_out for x in done.values()),
      "changed": plan.total(x.changed for x in done.values()),
      "warnings": [text for number in sorted(done) for text in done[number].warnings][:_WARNINGS],
    },
    splits={split: tuple(each) for split, each in splits.items()},
    files=tuple(verification.facts_of(file, folder) for file in files),
  )
  made.write(folder)
  return manifest.read(folder)


def _reasons(done: Mapping[int, plan.Done]) -> str:
  counts = plan.total(x.left_out for x in done.values())
  if not counts:
    return "its files are empty."
  return "; ".join(f"{n:,} {reason}, the first is {at}" for reason, (n, at) in counts.items()) + "."


def _digest(settings: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
  """Keeps a second command away from an unfinished cache, as long as this process lives."""
  with (folder / UNFINISHED / "lock").open("w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise UserError(
        f"another process is making the token cache {folder}; wait for it, or end it: what it has "
        "done is kept."
      ) from error
    except OSError:  # a file system without locks
      pass
    yield


def _remove_unfinished(folder: Path) -> None:
  """Removes the runs; a worker of a killed start may still write one."""
  shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
