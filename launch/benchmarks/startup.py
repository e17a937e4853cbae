"""What a run waits for: first starts, second starts, resuming, compiling many layers, saving.

The two starts are processes of launch.train that share a compilation cache, which is empty at
first. With --gin_file only the starts of that run are measured. "to step 1" is the time from the
start of the process to the record of the first step; "before" is the part of it before the step is
traced.

Resuming is a start from the checkpoint of step 100, or of step 20,000 deep in a long corpus, in
turns (restarts.py).

Compiling is tracing, lowering and XLA without the compilation cache; the two numbers of layers are
compiled in turns. A save returns when the state is copied, and writes while training continues:
"blocks" is the time that the loop waits, "next step" the time of a step during the writing, and
"written" the time until the checkpoint is complete, looked at after that step.

"ratio" is, for a start, its compilation over that of the first start; for resuming, the whole time
over that from step 100, round by round; for layers, the compilation over that of the fewest
layers, round by round; for a save, "blocks" over a training step. Seconds of several rounds are
medians.
"""

import contextlib
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from t5x_style.checkpoints.manager import Checkpoints
from t5x_style.training.step import compile_step

from ..process import environment
from ..process.errors import ConfigurationError
from . import restarts, step_cases, train_starts
from .flax_step import FlaxStep

FLAGS = ("gin_file", "gin_bindings", "gin_search_paths")
COLUMNS = {
  "before_seconds": ("before s", ".1f"),
  "compile_seconds": ("compile s", ".2f"),
  "total_seconds": ("to step 1 s", ".1f"),
  "step_seconds": ("step s", ".2f"),
  "save_seconds": ("blocks s", ".2f"),
  "next_step_seconds": ("next step s", ".2f"),
  "written_seconds": ("written s", ".2f"),
  "ratio": ("ratio", ".2f"),
}
_STARTS = ("first start", "second start")
_LAYERS = (12, 48)
_SAVE = "save"
LABELS = (*_STARTS, *restarts.LABELS, *(f"{count} layers" for count in _LAYERS), _SAVE)
_QUICKSTART = "quickstart_causal_lm.gin"
_COMPILATIONS, _SAVES = 5, 3  # rounds

_NARROW: dict[str, Any] = {
  "emb_dim": 64,
  "num_heads": 4,
  "head_dim": 16,
  "mlp_dim": 128,
  "vocab_size": 512,
}


def measure(
  gin_file: Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
  gin_search_paths: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
  """Yields a row per start, number of layers, and save; see launch.benchmark."""
  if not gin_file and (gin_bindings or gin_search_paths):
    raise ConfigurationError(f"Bindings belong to a gin file: add --gin_file={_QUICKSTART}.")
  # Starts come first: an accelerator serves one process, so this one must not have taken it yet.
  yield from starts(gin_file or (_QUICKSTART,), gin_bindings, gin_search_paths)
  if gin_file:
    return
  yield from restarts.measure()
  rotary = dataclasses.replace(step_cases.DECODER_1B, **_NARROW, dtype="float32")
  yield from compilations(step_cases.make("decoder-only", rotary, 2, targets=64), _LAYERS)
  t5 = dataclasses.replace(step_cases.t5_for_cpus(), **_NARROW)
  yield from compilations(step_cases.make("encoder-decoder", t5, 2, inputs=64, targets=64), _LAYERS)
  if jax.default_backend() == "cpu":
    t5 = step_cases.shipped_model("t5/small")
    yield saves(step_cases.make("T5 small", t5, 2, inputs=512, targets=114))
  else:
    t5 = step_cases.shipped_model("t5_1_1/base", dtype="bfloat16")
    yield saves(step_cases.make("T5 1.1 base", t5, 64, inputs=512, targets=114))


def starts(
  gin_files: Sequence[str], bindings: Sequence[str] = (), search_paths: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
  """Yields a row for each of two starts of the same run."""
  arguments = [
    *(f"--gin_file={name}" for name in gin_files),
    *(f"--gin_bindings={binding}" for binding in bindings),
    *(f"--gin_search_paths={path}" for path in search_paths),
  ]
  taken = train_starts.twice(arguments)
  files = " ".join(gin_files)
  for label, start in zip(_STARTS, taken, strict=True):
    yield {
      "group": f"Starts of {files} ({environment.accelerator(os.environ)}, jax {jax.__version__})",
      "label": label,
      "before_seconds": start.before,
      "compile_seconds": start.compile,
      "first_step_seconds": start.step,
      "total_seconds": start.total,
      "ratio": start.compile / taken[0].compile,
    }


def compilations(
  case: step_cases.StepCase, layers: Sequence[int], rounds: int = _COMPILATIONS
) -> Iterator[dict[str, Any]]:
  """Yields a row per number of layers of the case's stacks; the fewest have to come first."""
  prepared = [step_cases.prepare(_with_layers(case, count)) for count in layers]
  with _without_cache():
    compile_step(prepared[0])  # The first of a process takes longer.
    taken = [[_seconds(compile_step, each) for each in prepared] for _ in range(rounds)]
  group = f"Compiling scanned layers, {case.title} ({_device()})"
  for index, count in enumerate(layers):
    yield {
      "group": group,
      "label": f"{count} layers",
      "num_parameters": prepared[index].num_parameters,
      "compile_seconds": statistics.median(seconds[index] for seconds in taken),
      "rounds": [seconds[index] for seconds in taken],
      "ratio": statistics.median(seconds[index] / seconds[0] for seconds in taken),
    }


def saves(case: step_cases.StepCase, rounds: int = _SAVES) -> dict[str, Any]:
  """Returns a row about saving a case's state between its training steps."""
  prepared = step_cases.prepare(case)
  flax_step = FlaxStep(prepared, [next(prepared.dataset.train())])
  _step(flax_step)  # The first is slower.
  quiet, blocked, meanwhile, written = [], [], [], []
  with tempfile.TemporaryDirectory() as folder:
    checkpoints = Checkpoints(folder, keep=1)
    for _ in range(rounds):
      quiet.append(_seconds(_step, flax_step))
      start = time.perf_counter()
      checkpoints.save(flax_step.state, {}, identity={}, progress={})
      blocked.append(time.perf_counter() - start)
      meanwhile.append(_seconds(_step, flax_step))
      checkpoints.wait()
      written.append(time.perf_counter() - start)
    checkpoints.close()
  step, save = statistics.median(quiet), statistics.median(blocked)
  size = sum(x.nbytes for x in jax.tree.leaves(flax_step.state))
  millions = prepared.num_parameters / 1e6
  return {
    "group": f"Saving {millions:.0f}M parameters and AdamW's moments, {size / 2**20:,.0f} MiB, "
    f"{case.title} ({_device()})",
    "label": _SAVE,
    "num_parameters": prepared.num_parameters,
    "state_bytes": size,
    "step_seconds": step,
    "save_seconds": save,
    "next_step_seconds": statistics.median(meanwhile),
    "written_seconds": statistics.median(written),
    "ratio": save / step,
  }


def _with_layers(case: step_cases.StepCase, count: int) -> step_cases.StepCase:
  model = case.config.model
  stacks = ("num_encoder_layers", "num_decoder_layers")
  counts: dict[str, Any] = {name: count for name in stacks if getattr(model, name)}
  deep = dataclasses.replace(model, **counts)
  return case._replace(config=dataclasses.replace(case.config, model=deep))


@contextlib.contextmanager
def _without_cache() -> Iterator[None]:
  """A context in which programs are neither read from the compilation cache nor written to it."""
  name = "jax_enable_compilation_cache"
  before = getattr(jax.config, name)
  try:
    jax.config.update(name, False)
    compilation_cache.reset_cache()  # JAX reads the setting only once.
    yield
  finally:
    jax.config.update(name, before)
    compilation_cache.reset_cache()


def _step(flax_step: FlaxStep) -> None:
  """Trains one step and waits for it."""
  flax_step.loss(flax_step.step(0))


def _seconds(function, *arguments) -> float:
  start = time.perf_counter()
  function(*arguments)
  return time.perf_counter() - start


def _device() -> str:
  return f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
