"""Profiles: a trace of some steps for XProf or TensorBoard, and a summary of where the time went.

The trace is in MODEL_DIR/tensorboard (tensorboard --logdir, with the package xprof installed, or
ui.perfetto.dev for the trace.json.gz in it); the summary in MODEL_DIR/profile-FIRST-LAST.txt.
"""

import collections
import contextlib
import gzip
import importlib.util
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
from etils import epath

from t5x_style.errors import UserError, first_line

_LINES = 16  # of the summary
_CONTROL = re.compile(r"(while|conditional|call|async-start|async-done)([.\d]*)$")
_OPERATION = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*op_name="([^"]*)"', re.MULTILINE)


class Profiler:
  """Traces the steps from the first to the last of `steps`, both included; None traces nothing."""

  def __init__(self, steps: tuple[int, int] | None, model_dir: epath.Path):
    self._steps, self._model_dir = steps, model_dir
    self._running = False

  def __enter__(self) -> "Profiler":
    return self

  def __exit__(self, *_: Any) -> None:
    with _only_a_warning():
      self._stop()  # Training may end between the two steps.

  def before(self, step: int) -> None:
    if self._steps and step == self._steps[0]:
      options = jax.profiler.ProfileOptions()
      options.python_tracer_level = 0  # Only the device matters, and Python's trace is large.
      with _only_a_warning():
        jax.profiler.start_trace(self._model_dir / "tensorboard", profiler_options=options)
        self._running = True

  def after(self, step: int, metrics: Any, compiled: jax.stages.Compiled) -> str:
    """Returns the summary after the last of the steps, and "" after all others.

    Args:
      metrics: of the step; this waits for them.
      compiled: the step's program, which says to which layer an operation belongs.
    """
    if not self._running or self._steps is None or step != self._steps[1]:
      return ""
    jax.block_until_ready(metrics)
    text = ""
    with _only_a_warning():
      self._stop()
      events = newest_trace(self._model_dir / "tensorboard")
      first, last = self._steps
      found = summary(events, operations(compiled.as_text() or ""), last - first + 1)
      text = f"Steps {first} to {last}: {found}"
      if jax.process_index() == 0:
        (self._model_dir / f"profile-{first}-{last}.txt").write_text(text + "\n")
      text += f"\nThe trace: tensorboard --logdir {self._model_dir / 'tensorboard'}"
    return text

  def _stop(self):
    if self._running:
      self._running = False
      jax.profiler.stop_trace()


@contextlib.contextmanager
def _only_a_warning() -> Iterator[None]:
  """Turns an error, such as a full disk, into a warning: training continues without a profile."""
  try:
    yield
  except Exception as error:
    warnings.warn(f"the profile is not complete ({first_line(error)}).", stacklevel=3)


def check(steps: tuple[int, int] | None) -> None:
  """Raises UserError if steps are to be profiled and JAX's profiler would end this process."""
  if (
    steps
    and importlib.util.find_spec("libtpu")
    and not jax.config.jax_platforms  # type: ignore[attr-defined]  # defined when JAX is imported
    and jax.default_backend() != "tpu"
  ):
    raise UserError(
      "PROFILE_STEPS: JAX's profiler ends the process where libtpu is installed and there is no "
      f"TPU. Set JAX_PLATFORMS={jax.default_backend().replace('gpu', 'cuda')} in the environment."
    )


def newest_trace(folder: epath.Path) -> list[dict[str, Any]]:
  """Returns the events of the newest trace, in Chrome's trace format."""
  paths = sorted((folder / "plugins" / "profile").glob("*/*.trace.json.gz"))
  if not paths:
    return []
  return json.loads(gzip.decompress(paths[-1].read_bytes()))["traceEvents"]


def operations(program: str) -> dict[str, str]:
  """Returns {operation: the part of the model it belongs to}, from the text of a compiled program.

  fusion.3 -> "encoder/layers/mlp/wo/dot_general, backward"
  """
  parts = {name: _part(path) for name, path in _OPERATION.findall(program)}
  # The names of kernels on GPUs have no dots.
  return {re.sub(r"\W", "_", name): part for name, part in parts.items()} | parts


def _part(path: str) -> str:
  """Returns JAX's path of an operation without loops, jits and methods."""
  words = [
    word
    for word in path.split("/")
    if not re.search(r"^(jit|jvp|transpose|vmap|rematted|checkpoint)\b|[.(]", word)
    and word not in ("while", "body", "cond", "closed_call", "eval_jaxpr", "")
  ]
  direction = ", backward" if "transpose(" in path else ""
  return "/".join(words) + direction


def summary(events: Iterable[Mapping[str, Any]], parts: Mapping[str, str], steps: int) -> str:
  """Returns a table of the longest operations. Times are sums over all devices and threads.

  Args:
    events: of a trace.
    parts: {operation: the part of the model it belongs to}.
    steps: how many were traced.
  """
  seconds: dict[str, float] = collections.defaultdict(float)
  for name, duration in _operation_times(list(events)):
    # Kernels of libraries (cuBLAS, cuDNN) have their own names, which can be very long.
    seconds[parts.get(name) or re.sub(r"([._]\d+)+$", "", name)[:60]] += duration / 1e6
  total = sum(seconds.values())
  if not total:
    return "the trace names no operation; see it in TensorBoard."
  lines = [f"{1e3 * total / steps:,.1f} ms of operations a step, over all devices and threads"]
  longest = sorted(seconds.items(), key=lambda item: -item[1])
  for name, time in longest[:_LINES]:
    lines.append(f"  {time / total:6.1%} {1e3 * time / steps:10,.1f} ms  {name}")
  rest = sum(time for _, time in longest[_LINES:])
  if rest:
    lines.append(f"  {rest / total:6.1%} {1e3 * rest / steps:10,.1f} ms  all others")
  return "\n".join(lines)


def _operation_times(events: list[Mapping[str, Any]]) -> Iterable[tuple[str, float]]:
  """Yields (operation, microseconds).

  A device has one line of operations, beside lines that show the same time in other ways. On CPUs
  operations are among the other events of the threads.
  """
  threads = {
    (event["pid"], event["tid"]): event["args"]["name"]
    for event in events
    if event.get("ph") == "M" and event.get("name") == "thread_name"
  }
  with_line = {pid for (pid, _), name in threads.items() if name == "XLA Ops"}
  for event in events:
    if event.get("ph") != "X" or event["name"].startswith("end: "):
      continue
    operation = event.get("args", {}).get("hlo_op")
    if event["pid"] in with_line:
      on_line = threads.get((event["pid"], event["tid"])) == "XLA Ops"
      operation = (operation or event["name"]) if on_line else None
    if operation and operation.startswith("command_buffer"):  # CUDA graphs: many kernels in one.
      operation = event["name"]
    if operation and not _CONTROL.match(operation):
      yield operation, event["dur"]
