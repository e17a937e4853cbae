"""What launch.precompile says of a step's memory and time, beside what this machine's GPU shows.

Each case has a process of its own. It compiles the step for an absent GPU of the same kind, as
launch.precompile does, then for the GPU that is here, and trains. Without a GPU it says what an
H200 will show. An error is (predicted - measured) / measured. "Factor" is what
hardware.GpuChip.step_factor is fitted to: measured seconds over those of products at the peak and
all other kernels at the memory's bandwidth.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from t5x_style import hardware
from t5x_style.models import TransformerConfig
from t5x_style.planning import absent_gpus, precompile_report, topologies
from t5x_style.training import setup

from ..process import environment
from ..process.errors import ConfigurationError, did_you_mean
from . import step_cases
from .flax_step import FlaxStep

FLAGS = ("tiny",)
COLUMNS = {
  "predicted_gib": ("GiB", ",.2f"),
  "measured_gib": ("measured", ",.2f"),
  "memory_error": ("error", "+.1%"),
  "expected_seconds": ("s/step", ".4f"),
  "measured_seconds": ("measured", ".4f"),
  "time_error": ("error", "+.1%"),
  "least_seconds": ("at least", ".4f"),
  "factor": ("factor", ".3f"),
}
_WITHOUT_GPU = "h200"
_WARM_UP, _ROUNDS, _ROUND_SECONDS = 3, 5, 1.0
_BATCHES = 2


class Measured(NamedTuple):
  """A step that ran: the most bytes that a device held, and seconds of a step."""

  bytes: int | None
  seconds: float


# The first three are those of launch.benchmark step: where time ends early, they are done.
_NAMES = (
  "decoder 1B, unrolled",
  "BERT-base, unrolled",
  "T5 1.1 large",
  "decoder 1B, remat full",
  "BERT-base",
  "Llama 3.2 1B, remat dots",
  "GPT-2 medium",
  "T5 1.1 base",
  "T5 1.1 large, remat full",
  "T5 1.1 large, unrolled",
)
_TINY = "a tiny decoder"
LABELS = (*_NAMES, _TINY)


def cases() -> list[step_cases.StepCase]:
  """Returns ten steps of one GPU: all architectures, scanned and unrolled, with and without remat.

  The last of LABELS is another one, tiny(), to try the command with.
  """
  scanned: dict[str, Any] = {"dtype": "bfloat16"}
  unrolled, full = {**scanned, "scan_layers": False}, {**scanned, "remat": "full"}
  model, decoder = step_cases.shipped_model, step_cases.DECODER_1B
  span = {"inputs": 512, "targets": 114}
  described: list[tuple[TransformerConfig, int, Mapping[str, int]]] = [
    (dataclasses.replace(decoder, **unrolled), 16, {"targets": 2048}),
    (model("bert/base", **unrolled), 512, {"inputs": 128}),
    (model("t5_1_1/large", **scanned), 32, span),
    (dataclasses.replace(decoder, **full), 16, {"targets": 2048}),
    (model("bert/base", **scanned), 256, {"inputs": 128}),
    (model("llama3/1b", **scanned, remat="dots"), 4, {"targets": 4096}),
    (model("gpt2/medium", **scanned), 16, {"targets": 1024}),
    (model("t5_1_1/base", **scanned), 64, span),
    (model("t5_1_1/large", **full), 64, span),
    (model("t5_1_1/large", **unrolled), 64, span),
  ]
  return [
    step_cases.make(name, config, rows, **lengths)
    for name, (config, rows, lengths) in zip(_NAMES, described, strict=True)
  ]


def tiny() -> step_cases.StepCase:
  """Returns a step that a CPU measures in seconds."""
  sizes: dict[str, Any] = {"vocab_size": 512, "emb_dim": 64, "num_heads": 2, "head_dim": 32}
  sizes |= {"mlp_dim": 128, "num_decoder_layers": 1}
  model = dataclasses.replace(step_cases.DECODER_1B, **sizes)
  return step_cases.make(_TINY, model, 2, targets=32)


def measure(tiny: bool = False) -> Iterator[dict[str, Any]]:
  """Yields a row per case; see launch.benchmark.

  Args:
    tiny: only the tiny case, which is measured on whatever device is here.

  Raises:
    ConfigurationError: the process of a case failed; the message has its output.
  """
  environ = dict(os.environ)
  environment.set_xla_flags(environ, "gpu")
  for name in (_TINY,) if tiny else _NAMES:
    command = [sys.executable, "-m", f"{environment.PACKAGE}.benchmarks.predictions", name]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    if done.returncode:
      raise ConfigurationError(f"{name}: {done.stderr.strip()[-2000:]}")
    yield json.loads(done.stdout.splitlines()[-1])


def one_row(case: step_cases.StepCase) -> dict[str, Any]:
  """Predicts a case for a GPU of this machine's kind and, where there is one, measures it.

  The tiny case is measured in any case, and predicted where JAX's CUDA plugin is.
  """
  device = jax.devices()[0]
  chip = hardware.find_accelerator(device.device_kind)
  present = device.platform == "gpu"
  if present and not isinstance(chip, hardware.GpuChip):
    raise ConfigurationError(
      f"Nothing is known about {device.device_kind}: see hardware.GPU_CHIPS."
    )
  name = chip.name if isinstance(chip, hardware.GpuChip) else _WITHOUT_GPU
  possible = case.name != _TINY or present or absent_gpus.available()
  predicted = predict(case, topologies.parse(f"{name}:1")) if possible else None
  return row(case, predicted, measured(case) if present or case.name == _TINY else None)


def predict(case: step_cases.StepCase, topology: topologies.Topology) -> precompile_report.Report:
  """Returns what launch.precompile reports about a case."""
  with tempfile.TemporaryDirectory() as folder:
    config = dataclasses.replace(case.config, model_dir=folder)
    prepared = setup.prepare(config, topologies.devices(topology))
  return precompile_report.examine(prepared, topology)


def measured(case: step_cases.StepCase, round_seconds: float = _ROUND_SECONDS) -> Measured:
  """Trains a case on this machine's device.

  Args:
    round_seconds: at least so long is each round of steps, of which only the last is waited for.
  """
  prepared = step_cases.prepare(case)
  stream = prepared.dataset.train()
  flax_step = FlaxStep(prepared, [next(stream) for _ in range(_BATCHES)])
  _seconds_of(flax_step, _WARM_UP)
  count = max(1, round(round_seconds / _seconds_of(flax_step, 1)))
  rounds = [_seconds_of(flax_step, count) / count for _ in range(_ROUNDS)]
  return Measured(flax_step.peak_bytes(), statistics.median(rounds))


def _seconds_of(flax_step: FlaxStep, count: int) -> float:
  start = time.perf_counter()
  for number in range(count):
    sums = flax_step.step(number)
  flax_step.loss(sums)
  return time.perf_counter() - start


def row(
  case: step_cases.StepCase, predicted: precompile_report.Report | None, measured: Measured | None
) -> dict[str, Any]:
  """Returns the row of a case; what was not measured, or not predicted, is None."""
  seconds = measured and measured.seconds
  held = measured and measured.bytes
  found = {
    "group": f"jax {jax.__version__}",
    "label": case.name,
    "case": case.title,
    "precision": case.config.model.dtype,
    "measured_gib": held and held / hardware.GIB,
    "measured_seconds": seconds,
  }
  if predicted is None:
    return found
  line = predicted.roofline
  ideal = line.compute + (line.others or 0.0)
  # A program's own code is not among the bytes that the device reports as its arrays'.
  needed = predicted.hbm_bytes - predicted.memory.get("program", 0)
  return found | {
    "group": f"{predicted.topology.chip.name.upper()}, jax {jax.__version__}",
    "predicted_gib": needed / hardware.GIB,
    "memory_error": held and needed / held - 1,
    "least_seconds": line.seconds,
    "product_seconds": line.compute,
    "other_seconds": line.others,
    "expected_seconds": line.expected,
    "time_error": line.expected / seconds - 1 if line.expected and seconds else None,
    "factor": seconds / ideal if seconds else None,
    "compile_seconds": predicted.compile_seconds,
  }


def main(name: str) -> None:
  """Prints the row of the case with this name, as JSON."""
  found: Mapping[str, step_cases.StepCase] = {case.name: case for case in (*cases(), tiny())}
  if name not in found:
    raise ConfigurationError(f"There is no case {name!r}.{did_you_mean(name, found)}")
  print(json.dumps(one_row(found[name])))


if __name__ == "__main__":
  main(sys.argv[1])
