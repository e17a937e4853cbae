"""Corpus files that change under a running job: it trains on as before, or stops and names them."""

import shutil
from collections.abc import Callable
from pathlib import Path

from launch.process.exit_codes import ExitCode
from tests.soak.outcomes import Fault, Outcome
from tests.soak.trial import Trial


def _changed(change: Callable[[Trial, Path], object]) -> Callable[[Trial], Outcome]:
  """Returns a fault: all files change at a random step, and after a SIGKILL the run starts again.

  The run may have read all that it needs: then its end is as if nothing had changed.
  """

  def inject(trial: Trial) -> Outcome:
    corpus = trial.folder / "corpus"
    shutil.copytree(trial.references.corpus, corpus)
    documents = trial.random.choice(("file", "line"))
    trial.settings = [f"--gin.CORPUS_DOCUMENTS='{documents}'"]
    trial.own_settings = [f"--gin.CORPUS_FILES='{corpus}/*.txt'"]
    process = trial.start()
    trial.trains_until(process)
    for path in sorted(corpus.iterdir()):
      change(trial, path)
    trial.injected += 1
    if trial.random.random() < 0.5 and process.wait() == ExitCode.FINISHED:
      return trial.survived_exactly(process, f"documents: {documents}")
    process.kill()
    again = trial.start() if process.popen.returncode < 0 else process
    return trial.stopped_clearly(again, ExitCode.MISTAKE, "corpus|CORPUS_FILES|documents")

  return inject


def _cut(trial: Trial, path: Path) -> None:
  with path.open("r+b") as file:
    file.truncate(path.stat().st_size // 2)


def _append(trial: Trial, path: Path) -> None:
  with path.open("a") as file:
    file.write("one more line\n" * 20)


def _replace(trial: Trial, path: Path) -> None:
  text = path.read_text()
  part = path.with_suffix(".part")
  part.write_text(text[::-1])
  part.replace(path)


def _fault(name: str, about: str, change: Callable[[Trial, Path], object]) -> Fault:
  return Fault(name, about, ("exact", "stopped"), _changed(change))


FAULTS = (
  _fault("corpus-cut", "all files of the corpus are cut in half", _cut),
  _fault("corpus-appended", "lines are added to all files of the corpus", _append),
  _fault("corpus-replaced", "other files of the same sizes have the names", _replace),
  _fault("corpus-deleted", "all files of the corpus are deleted", lambda _, path: path.unlink()),
)
