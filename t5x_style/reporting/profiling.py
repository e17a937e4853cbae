"""Profiles on request: a trace of some steps for XProf or TensorBoard, and where their time went.

The trace lies in MODEL_DIR/tensorboard (tensorboard --logdir, with the package xprof installed, or
ui.perfetto.dev for the trace.json.gz in it); the summary in MODEL_DIR/profile-FIRST-LAST.txt.
"""

import collections
import gzip
import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
from etils import epath

from t5x_style.errors import UserError

_LINES = 16  # of the summary
_CONTROL = re.compile(r"(while|conditional|call|async-start|async-done)([.\d]*)$")
_OPERATION = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*op_name="([^"]*)"', re.MULTILINE)


class Profiler:
  """Traces the steps from the first to the last of `steps`, both included; nothing where None."""

  def __init__(self, steps: tuple[int, int] | None, model_dir: epath.Path):
    self._steps, self._model_dir = steps, model_dir
    self._running = False

  def __enter__(self) -> "Profiler":
    return self

  def __exit__(self, *_: Any) -> None:
    self._stop()  # Where training ends between the two.

  def before(self, step: int) -> None:
    if self._steps and step == self._steps[0]:
      options = jax.profiler.ProfileOptions()
      options.python_tracer_level = 0  # What matters is the device; it makes large files.
      jax.profiler.start_trace(self._model_dir / "tensorboard", profiler_options=options)
      self._running = True

  def after(self, step: int, metrics: Any, compiled: jax.stages.Compiled) -> str:
    """The summary, after the last of the steps; else "".

    Args:
      metrics: of the step; this waits for them.
      compiled: the step's program, which knows what its operations are part of.
    """
    if not self._running or self._steps is None or step != self._steps[1]:
      return ""
    jax.block_until_ready(metrics)
    self._stop()
    events = newest_trace(self._model_dir / "tensorboard")
    first, last = self._steps
    text = summary(events, operations(compiled.as_text() or ""), last - first + 1)
    path = self._model_dir / f"profile-{first}-{last}.txt"
    text = f"Steps {first} to {last}: {text}"
    if jax.process_index() == 0:
      path.write_text(text + "\n")
    return f"{text}\nThe trace: tensorboard --logdir {self._model_dir / 'tensorboard'}"

  def _stop(self):
    if self._running:
      self._running = False
      jax.profiler.stop_trace()


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
  """The events of the trace that JAX wrote last, as Chrome's trace format has them."""
  paths = sorted((folder / "plugins" / "profile").glob("*/*.trace.json.gz"))
  if not paths:
    return []
  return json.loads(gzip.decompress(paths[-1].read_bytes()))["traceEvents"]


def operations(program: str) -> dict[str, str]:
  """{operation of a compiled program: what it is part of}, from the program's text.

  fusion.3 -> "encoder/layers/mlp/wo/dot_general, backward"
  """
  parts = {name: _part(path) for name, path in _OPERATION.findall(program)}
  # GPUs have kernels, which are named without dots.
  return {re.sub(r"\W", "_", name): part for name, part in parts.items()} | parts


def _part(path: str) -> str:
  """JAX's path of an operation without what tells nothing: loops, jits, methods."""
  words = [
    word
    for word in path.split("/")
    if not re.search(r"^(jit|jvp|transpose|vmap|rematted|checkpoint)\b|[.(]", word)
    and word not in ("while", "body", "cond", "closed_call", "eval_jaxpr", "")
  ]
  direction = ", backward" if "transpose(" in path else ""
  return "/".join(words) + direction


def summary(events: Iterable[Mapping[str, Any]], parts: Mapping[str, str], steps: int) -> str:
  """A table of what took longest. Times are sums over all devices and threads.

  Args:
    events: of a trace; parts: what operations belong to; steps: how many were traced.
  """
  seconds: dict[str, float] = collections.defaultdict(float)
  for name, duration in _operation_times(list(events)):
    # Kernels of libraries (cuBLAS, cuDNN) stand under their own names, which can be very long.
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
  """(operation, microseconds). Devices have a line for operations beside other views of the same;
  on CPUs operations stand among what the threads do."""
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
