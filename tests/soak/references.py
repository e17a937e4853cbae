"""Undisturbed runs, with which all others are compared, and what all runs have in common."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
RUN, HARMFUL = (Path(__file__).with_name(name) for name in ("run.gin", "harmful.gin"))
_FILES = 40  # of Python's standard library are the corpus
_BATCHES = 3  # are compared after the end


class References:
  """Undisturbed runs, one for each list of settings; each is made when it is first needed.

  Attributes:
    corpus: a folder of text files; a trial that changes them gets a copy.
    environ: variables of every process.
    processes: of all runs.
  """

  def __init__(self, folder: Path):
    """Copies the corpus into the folder."""
    self._folder = folder
    self.corpus = folder / "corpus"
    self.environ = {
      "JAX_PLATFORMS": "cpu",
      "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
      "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
      "COLUMNS": "200",
    }
    self.processes: list[subprocess.Popen] = []
    self._stopped = False
    self._made: dict[tuple[str, ...], Path] = {}
    self._making = threading.Lock()
    self._reading = threading.Lock()
    self._iterators: dict[tuple[str, ...], Any] = {}
    if not self.corpus.exists():
      copy_texts(self.corpus)

  def arguments(self, model_dir: Path) -> list[str]:
    """Returns the arguments that every run has."""
    return [
      f"--gin_file={RUN}",
      f"--gin.CORPUS_FILES='{self.corpus}/*.txt'",
      f"--gin.MODEL_DIR='{model_dir}'",
    ]

  def start(
    self,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    through: Sequence[str] = (),
    **options: Any,
  ) -> subprocess.Popen:
    """Starts launch.train of this working tree.

    Args:
      arguments: of the command.
      environ: variables beside those of every process.
      through: a program that executes the command that comes after its own arguments.
      **options: of subprocess.Popen.
    """
    process = subprocess.Popen(
      [*through, sys.executable, "-m", "launch.train", *arguments],
      cwd=ROOT,
      env={**os.environ, **self.environ, **environ},
      stdin=subprocess.DEVNULL,
      start_new_session=True,  # Ctrl-C of the soak program is not meant for it.
      **options,
    )
    self.processes.append(process)
    if self._stopped:
      process.kill()
    return process

  def stop(self) -> None:
    """Kills all processes, also those that are started later."""
    self._stopped = True
    for process in self.processes:
      process.kill()

  def model_dir(self, settings: Sequence[str], processes: int = 1) -> Path:
    """Returns the MODEL_DIR of an undisturbed run with these settings."""
    with self._making:
      key = (*settings, str(processes))
      if key not in self._made:
        self._made[key] = self._train(settings, processes)
      return self._made[key]

  def _train(self, settings: Sequence[str], processes: int) -> Path:
    model_dir = self._folder / f"reference-{len(self._made) + 1}"
    shutil.rmtree(model_dir, ignore_errors=True)
    port = free_port()
    running = []
    for index in range(processes):
      own = job_arguments(port, index, processes) if processes > 1 else []
      with (self._folder / f"{model_dir.name}-{index}.txt").open("w") as output:
        command = [*self.arguments(model_dir), *settings, *own]
        running.append(self.start(command, {}, stdout=output, stderr=subprocess.STDOUT))
    codes = [process.wait() for process in running]
    if any(codes):
      raise RuntimeError(f"an undisturbed run ended with {codes}: see {model_dir}-0.txt")
    return model_dir

  def next_batches(
    self, settings: Sequence[str], streams: Mapping[str, bytes]
  ) -> list[dict[str, np.ndarray]]:
    """Returns the batches after a position in the data of a run with these settings."""
    with self._reading:
      key = tuple(settings)
      if key not in self._iterators:
        self._iterators[key] = self._open(settings)
      self._iterators[key].set_state(streams)
      return [next(self._iterators[key]) for _ in range(_BATCHES)]

  def _open(self, settings: Sequence[str]):
    from launch.configuration import reader
    from launch.process import environment

    environment.quieten(os.environ)
    with environment.quiet_imports():
      from t5x_style.training.train_config import TrainConfig

      flags = [*self.arguments(self._folder / "none"), *settings]
      files = [x.partition("=")[2] for x in flags if x.startswith("--gin_file=")]
      bindings = [x.removeprefix("--gin.") for x in flags if x.startswith("--gin.")]
      configuration = reader.read(files, [x.replace("=", " = ", 1) for x in bindings])
      config = configuration.build(TrainConfig)
      dataset = config.dataset(
        architecture=config.model.architecture,
        batch_size=config.batch_size,
        seed=config.seed,
        process_index=0,
        process_count=1,
      )
    return dataset.train()


def job_arguments(port: int, index: int, count: int) -> list[str]:
  """Returns the flags of one of several processes on this machine."""
  address = f"--coordinator_address=localhost:{port}"
  return [address, f"--process_count={count}", f"--process_index={index}"]


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    return probe.getsockname()[1]


def copy_texts(folder: Path) -> None:
  """Copies files of Python's standard library, as text files."""
  part = folder.with_name(f"{folder.name}.part")
  shutil.rmtree(part, ignore_errors=True)
  part.mkdir(parents=True)
  library = Path(sysconfig.get_paths()["stdlib"])
  for path in sorted(library.glob("*.py"))[:_FILES]:
    shutil.copyfile(path, part / f"{path.stem}.txt")
  part.rename(folder)
