"""A whole run on real text: trained, killed and resumed, and trained again in 8 bits.

A decoder learns to continue the code of Python's standard library, from a token cache that is made
first, so no TensorFlow is needed. The run is made twice with DETERMINISTIC = True: undisturbed, and
ended by SIGKILL after its first checkpoint and started again. "same" says whether every record of
the two has the same loss, to the bit, or by how much they differ at most. Where a deterministic run
fails, a row says why, and all runs are made without. The third run has FP8 = True; "loss ratio" is
its last held-out loss over that of the first run. Seconds are those of the processes, with imports
and compiling; tokens/s are those of the records in the second half.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..process import environment
from ..process.errors import ConfigurationError

FLAGS = ("tiny", "to")
COLUMNS = {
  "seconds": ("s", ",.1f"),
  "tokens_per_second": ("tokens/s", ",.0f"),
  "first_loss": ("first loss", ".3f"),
  "held_out_loss": ("held-out", ".4f"),
  "loss_ratio": ("loss ratio", ".4f"),
  "killed_after": ("killed after", ",.0f"),
  "same": ("same", ""),
  "error": ("error", ""),
}
_CACHE, _PLAIN, _KILLED, _FP8 = "token cache", "undisturbed", "killed, resumed", "in 8 bits"
LABELS = (_CACHE, _PLAIN, _KILLED, _FP8)
_POLL_SECONDS = 0.01
_LARGEST_DIFFERENCE = 0.02  # of losses, relative, between runs that are not deterministic


class _Sizes(NamedTuple):
  """How large the trial is; the bindings are gin's.

  Attributes:
    text_bytes: of the standard library.
  """

  text_bytes: int
  settings: dict[str, Any]


_USUAL = _Sizes(
  40_000_000,
  {
    "TRAIN_STEPS": 300,
    "EVAL_PERIOD": 100,
    "EVAL_BATCHES": 8,
    "SAVE_PERIOD": 100,
    "LOG_PERIOD": 10,
    "BATCH_SIZE": 32,
    "TASK_FEATURE_LENGTHS": {"targets": 512},
    "PEAK_LEARNING_RATE": 1e-3,
    "SCAN_LAYERS": True,
    "config.TransformerConfig.emb_dim": 768,
    "config.TransformerConfig.num_heads": 12,
    "config.TransformerConfig.num_kv_heads": 12,
    "config.TransformerConfig.mlp_dim": 2048,
    "config.TransformerConfig.num_decoder_layers": 12,
  },
)
_TINY = _Sizes(
  3_000_000,
  {
    "TRAIN_STEPS": 200,
    "EVAL_PERIOD": 100,
    "EVAL_BATCHES": 1,
    "SAVE_PERIOD": 50,
    "LOG_PERIOD": 10,
    "BATCH_SIZE": 4,
    "TASK_FEATURE_LENGTHS": {"targets": 32},
    "config.TransformerConfig.emb_dim": 32,
    "config.TransformerConfig.head_dim": 8,
    "config.TransformerConfig.mlp_dim": 48,
    "config.TransformerConfig.num_decoder_layers": 1,
  },
)


def measure(tiny: bool = False, to: str | None = None) -> Iterator[dict[str, Any]]:
  """Yields a row for the cache and for each run; see launch.benchmark.

  Args:
    to: the folder for cache and runs; None: one that is removed afterwards.

  Raises:
    ConfigurationError: the folder holds an earlier trial.
    ValueError: a run failed, or the resumed run has other losses than the undisturbed one.
  """
  if to and Path(to, "cache").exists():
    raise ConfigurationError(f"--to={to} holds an earlier trial; name a new folder.")
  with tempfile.TemporaryDirectory() as folder:
    yield from _measure(_TINY if tiny else _USUAL, Path(to or folder).absolute())


def _measure(sizes: _Sizes, folder: Path) -> Iterator[dict[str, Any]]:
  from . import stdlib_cache

  group = f"A decoder on Python's standard library ({environment.accelerator(os.environ)})"
  row = {"group": group, "precision": "bfloat16", "settings": sizes.settings}
  begun = time.perf_counter()
  cache = folder / "cache"
  tokens = stdlib_cache.make(cache, sizes.text_bytes)
  yield row | {"label": _CACHE, "seconds": time.perf_counter() - begun, "tokens": tokens}
  runs = _Runs(sizes.settings, folder, cache)
  try:
    plain = runs.train("undisturbed")
  except ValueError as error:
    yield row | {"label": _PLAIN, "error": str(error)}
    runs = _Runs(sizes.settings, folder / "again", cache, deterministic=False)
    plain = runs.train("undisturbed")
  yield row | {"label": _PLAIN} | plain
  killed_after = runs.train_until_killed("resumed")
  resumed = runs.train("resumed")
  difference = _largest_difference(runs.losses("undisturbed"), runs.losses("resumed"))
  same = "yes" if difference == 0 else f"within {difference:.1e}"
  yield row | {"label": _KILLED} | resumed | {"killed_after": killed_after, "same": same}
  in_8_bits = runs.train("fp8", "--gin.FP8=True")
  in_8_bits["loss_ratio"] = in_8_bits["held_out_loss"] / plain["held_out_loss"]
  yield row | {"label": _FP8, "precision": "fp8"} | in_8_bits
  if difference > (0 if runs.deterministic else _LARGEST_DIFFERENCE):
    raise ValueError(f"The resumed run has other losses than the undisturbed one: {same}.")


def _largest_difference(
  one: Mapping[tuple[int, str], float], other: Mapping[tuple[int, str], float]
) -> float:
  """Returns the largest difference of two runs' losses, relative; infinity if a record lacks."""
  if one.keys() != other.keys():
    return math.inf
  return max(abs(one[key] - other[key]) / abs(one[key]) for key in one)


class _Runs:
  """Starts runs on a cache; run NAME is in FOLDER/NAME."""

  def __init__(
    self, settings: dict[str, Any], folder: Path, cache: Path, deterministic: bool = True
  ):
    self._settings, self._folder, self._cache = settings, folder, cache
    self.deterministic = deterministic
    folder.mkdir(exist_ok=True)

  def train(self, name: str, *more: str) -> dict[str, Any]:
    """Trains to the last step and returns columns of the row."""
    begun = time.perf_counter()
    done = subprocess.run(self._command(name, more), capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode:
      raise ValueError(f"launch.train ended with code {done.returncode}: {done.stderr[-2000:]}")
    records = self._records(name)
    trained = [x for x in records if x["split"] == "train"]
    rates = [x["tokens_per_second"] for x in trained[len(trained) // 2 :]]
    held_out = [x["loss"] for x in records if x["split"] == "validation"]
    return {
      "seconds": seconds,
      "tokens_per_second": statistics.median(rates),
      "first_loss": trained[0]["loss"],
      "held_out_loss": held_out[-1],
    }

  def train_until_killed(self, name: str) -> int:
    """Ends a run by SIGKILL once it has a checkpoint; returns the last step that it recorded."""
    checkpoints = self._folder / name / "checkpoints"
    with (
      (self._folder / f"{name}.log").open("w") as log,
      subprocess.Popen(self._command(name, ()), stdout=log, stderr=log) as process,
    ):
      while process.poll() is None and not any(
        path.name.isdigit() for path in checkpoints.glob("*")
      ):
        time.sleep(_POLL_SECONDS)
      process.kill()
    if process.returncode >= 0:
      raise ValueError(f"The run ended before it was killed: see {log.name}.")
    return max((x["step"] for x in self._records(name)), default=0)

  def losses(self, name: str) -> dict[tuple[int, str], float]:
    """Returns {(step, split): loss} of all records."""
    return {(x["step"], x["split"]): x["loss"] for x in self._records(name)}

  def _command(self, name: str, more: Sequence[str]) -> list[str]:
    settings = self._settings | {
      "CACHE_DIR": str(self._cache),
      "MODEL_DIR": str(self._folder / name),
      "DTYPE": "bfloat16",
      "DETERMINISTIC": self.deterministic,
      "KEEP_CHECKPOINTS": 1,
    }
    files = ("quickstart_causal_lm.gin", "data/token_cache.gin")
    return [
      *(sys.executable, "-m", f"{environment.PACKAGE}.train"),
      *(f"--gin_file={file}" for file in files),
      *(f"--gin.{setting}={value!r}" for setting, value in settings.items()),
      *more,
    ]

  def _records(self, name: str) -> list[dict[str, Any]]:
    text = (self._folder / name / "metrics.jsonl").read_text()
    # A killed process may leave half a line.
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]
