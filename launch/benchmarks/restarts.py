"""Times how long a run takes to resume, early and late in a long corpus; a part of startup.

A tiny model resumes from step 100 and from step 20,000, deep in one pass over 30 MB of text: the
standard library as text files (a document each), as gzip-compressed lines and as JSON lines. The
checkpoints are made by reading all batches up to those steps, without training: what is restored,
and where the data continues, is the same.
"""

import concurrent.futures
import gzip
import json
import multiprocessing
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..configuration import reader
from ..process import environment
from . import train_starts

STEPS = (100, 20_000)
LABELS = tuple(f"from step {step:,}" for step in STEPS)
_ROUNDS = 3
_ROWS, _LENGTH = 6, 64  # 7.7 million tokens in 20,000 steps
_FILES = 8  # of lines
_LEAST_BYTES = 5_000_000  # of text: a few hundred documents

_RUN = """
from __gin__ import dynamic_registration
include 'runs/pretrain.gin'
include 'runs/schedules/constant.gin'
include 'models/base.gin'
include {corpus!r}
include 'objectives/causal_lm.gin'
from t5x_style.models import config
CORPUS_FILES = {pattern!r}
{more}
TASK_FEATURE_LENGTHS = {{"targets": {length}}}
BATCH_SIZE = {rows}
TRAIN_STEPS = 1000000
EVAL_PERIOD = 1000000
SAVE_PERIOD = 1000000
EVAL_BATCHES = 1
LOG_PERIOD = 1
WARMUP_STEPS = 10
MODEL_DIR = "set by a flag"
config.TransformerConfig:
  emb_dim = 16
  num_heads = 2
  head_dim = 8
  mlp_dim = 32
  num_decoder_layers = 1
"""
# {name: (file of the corpus, more settings)}
_CORPORA = {
  "text files": ("data/text_files.gin", ""),
  "compressed lines": ("data/text_files.gin", 'CORPUS_DOCUMENTS = "line"'),
  "JSON lines": ("data/jsonl.gin", ""),
}


def measure(
  names: Iterable[str] = tuple(_CORPORA), steps: Sequence[int] = STEPS, rounds: int = _ROUNDS
) -> Iterator[dict[str, Any]]:
  """Yields a row for each step that a run resumes from, in turns; for each kind of corpus."""
  for name in names:
    with tempfile.TemporaryDirectory() as folder:
      gin_file, size = _in_a_process(_write_run, name, folder, max(steps))
      _in_a_process(_write_checkpoints, gin_file, folder, steps)
      yield from _rows(name, size, gin_file, Path(folder), steps, rounds)


def _rows(
  name: str, size: int, gin_file: str, folder: Path, steps: Sequence[int], rounds: int
) -> Iterator[dict[str, Any]]:
  taken: dict[int, list[train_starts.Start]] = {step: [] for step in steps}
  # The first round fills the compilation cache and is not counted.
  for number in range(rounds + 1):
    for step in steps:
      model_dir = folder / "resumed"
      shutil.rmtree(model_dir, ignore_errors=True)
      shutil.copytree(folder / str(step), model_dir)
      start = train_starts.resume([f"--gin_file={gin_file}"], model_dir, folder / "xla", step)
      if number:
        taken[step].append(start)
  first = taken[steps[0]]
  for step in steps:
    starts = taken[step]
    yield {
      "group": f"Resuming, {size / 1e6:.0f} MB of {name}",
      "label": f"from step {step:,}",
      "before_seconds": statistics.median(start.before for start in starts),
      "compile_seconds": statistics.median(start.compile for start in starts),
      "total_seconds": statistics.median(start.total for start in starts),
      "rounds": [start.total for start in starts],
      "ratio": statistics.median(
        start.total / early.total for start, early in zip(starts, first, strict=True)
      ),
    }


def _in_a_process(function, *arguments) -> Any:
  """Calls a function in a new process: an accelerator serves one, and here no run may hold it."""
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
    return pool.submit(function, *arguments).result()


def _write_run(name: str, folder: str, steps: int) -> tuple[str, int]:
  """Writes the corpus and the gin file; returns the file's path, and the bytes of text."""
  environment.prepare()
  from t5x_style.data.corpora import PythonStdlib

  documents = PythonStdlib().source().get_dataset("train", shuffle=False)
  texts = [document["text"] for document in documents.as_numpy_iterator()]
  # A short trial gets only as much text as it needs, with some for validation.
  most, size, kept = max(_LEAST_BYTES, 8 * steps * _ROWS * _LENGTH), 0, []
  for text in texts:
    if size < most and b"\x1b" not in text:  # Text files with escapes are taken for ISO 2022.
      kept.append(text)
      size += len(text)
  corpus = Path(folder, "corpus")
  corpus.mkdir()
  pattern = str(corpus / "*")
  if name == "text files":
    for number, text in enumerate(kept):
      (corpus / f"{number:05d}.txt").write_bytes(text)
  elif name == "JSON lines":
    lines = (json.dumps({"text": text.decode()}) + "\n" for text in kept)
    (corpus / "all.txt").write_text("".join(lines))
  else:
    for number in range(_FILES):
      packed = gzip.compress(b"".join(kept[number::_FILES]))
      (corpus / f"{number}.txt.gz").write_bytes(packed)
  gin_file = Path(folder, "run.gin")
  data, more = _CORPORA[name]
  gin_file.write_text(
    _RUN.format(corpus=data, pattern=pattern, more=more, length=_LENGTH, rows=_ROWS)
  )
  return str(gin_file), size


def _write_checkpoints(gin_file: str, folder: str, steps: Sequence[int]) -> None:
  """Writes FOLDER/STEP, a MODEL_DIR with a checkpoint and the records until then, for each step."""
  environment.prepare()
  import jax.numpy as jnp

  from t5x_style.checkpoints.manager import Checkpoints
  from t5x_style.reporting.writers import MetricWriters
  from t5x_style.training import setup, train_config

  prepared = setup.prepare(reader.read([gin_file]).build(train_config.TrainConfig))
  state, batches = prepared.init(0), prepared.dataset.train()
  for step in range(1, max(steps) + 1):
    next(batches)
    if step not in steps:
      continue
    model_dir = Path(folder, str(step))
    with MetricWriters(model_dir) as writers:
      for earlier in range(100, step + 1, 100):
        writers.write(earlier, "train", {"loss": 1.0, "tokens_per_second": 1.0, "data_wait": 0.1})
    with Checkpoints(model_dir / "checkpoints") as checkpoints:
      checkpoints.save(
        state.replace(step=jnp.int32(step)),
        batches.get_state(),
        identity=prepared.identity(),
        progress={"settings": prepared.settings(step)},
      )
