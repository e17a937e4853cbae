"""Writes metrics to metrics.jsonl, to TensorBoard events and, on request, to trackers."""

import json
import math
import os
import socket
import struct
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
from etils import epath

from t5x_style.errors import first_line
from t5x_style.reporting import trackers
from t5x_style.reporting.record_file import RecordFile


class Writer(Protocol):
  """One place that records are written to. What it raises does not end a run."""

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None: ...

  def flush(self) -> None: ...

  def rewind(self, step: int) -> None:
    """Drops or hides the records after a step."""
    ...

  def close(self) -> None: ...


class MetricWriters:
  """All places that the records of one run are written to; only the first process writes.

  A run that resumes from step k first removes every record of a later step, so the logs read as if
  it had never stopped. Once they are open, an error of a writer does not end the run: it is said,
  once until all can be written again, and the files keep their records until then.
  """

  def __init__(self, model_dir: str | os.PathLike, first_step: int = 0):
    """Opens all writers.

    Args:
      model_dir: where metrics.jsonl and tensorboard/ are.
      first_step: the step that the run resumes from, 0 for a new one.

    Raises:
      UserError: a tracker is requested whose package is not installed.
      OSError: metrics.jsonl cannot be read or cut.
    """
    self._writers: list[Writer] = []
    self._failing: set[int] = set()  # indices of the writers whose last call failed
    if jax.process_index() == 0:
      path = epath.Path(model_dir)
      path.mkdir(parents=True, exist_ok=True)
      self._writers = [JsonLines(path / "metrics.jsonl", first_step), TensorBoard(path, first_step)]
      self._writers += trackers.requested(path)

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Adds a record: the values after `step` steps on `split` ("train", "validation")."""
    self._each(lambda writer: writer.write(step, split, values))

  def flush(self) -> None:
    self._each(lambda writer: writer.flush())

  def rewind(self, step: int) -> None:
    """Removes every record of a later step, for a run that rolls back."""
    self._each(lambda writer: writer.rewind(step))

  def close(self) -> None:
    self._failing.clear()  # What cannot be written now is lost: that is said again.
    self._each(lambda writer: writer.close(), "the last ones are lost")

  def __enter__(self) -> "MetricWriters":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  def _each(
    self,
    act: Callable[[Writer], None],
    then: str = "they are written when it is possible, and training continues",
  ) -> None:
    before = set(self._failing)
    for index, writer in enumerate(self._writers):
      try:
        act(writer)
        self._failing.discard(index)
      except Exception as error:
        self._failing.add(index)
        if not before:
          before = self._failing
          warnings.warn(f"metrics cannot be written ({first_line(error)}): {then}.", stacklevel=3)


class JsonLines:
  """One JSON object a line: {"step": 20, "split": "train", "loss": 5.1, ...}.

  JSON has no NaN and no infinity. Such a value is null, and "not_finite" says what it was:
  {"step": 20, "split": "train", "loss": null, "not_finite": {"loss": "nan"}}.
  """

  def __init__(self, path: str | os.PathLike, first_step: int = 0):
    """Opens the file after its last record of step `first_step` or earlier.

    Records of later steps are dropped, and a line that a killed process left unfinished. A new run,
    of first step 0, keeps no record: it evaluates its initial parameters as step 0 again.
    """
    self._file = RecordFile(path)
    self.rewind(first_step or -1)

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    odd = {name: str(float(x)) for name, x in values.items() if not math.isfinite(x)}
    plain = {name: None if name in odd else _number(x) for name, x in values.items()}
    record: dict[str, Any] = {"step": int(step), "split": split, **plain}
    if odd:
      record["not_finite"] = odd
    self._file.add(f"{json.dumps(record, allow_nan=False)}\n".encode())

  def flush(self) -> None:
    self._file.flush()

  def rewind(self, step: int) -> None:
    self._file.keep(lambda content: records_until(step, content))

  def close(self) -> None:
    self._file.close()


class TensorBoard:
  """TensorBoard events under MODEL_DIR/tensorboard; each split is a curve of the same plot.

  The events and the checksums are those of tensorboardX. Its SummaryWriter is not used: its thread
  ends at the first error, and a training that adds events then waits for it without end.
  """

  def __init__(self, model_dir: str | os.PathLike, first_step: int = 0):
    """Hides what the event files have beyond `first_step`; new events go to new files."""
    self._folder = epath.Path(model_dir) / "tensorboard"
    self._first_step = first_step
    self._files: dict[str, RecordFile] = {}
    for path in self._folder.iterdir() if self._folder.exists() else ():
      if path.name != "plugins":  # The profiler writes there.
        self._file(path.name).flush()  # Also in splits whose next record is far away.

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    from tensorboardX import summary  # Here and below: only records need it.

    events = [
      _event(step=int(step), summary=summary.scalar(name, float(value)))
      for name, value in values.items()
    ]
    self._file(split).add(b"".join(events))

  def flush(self) -> None:
    for file in self._files.values():
      file.flush()

  def rewind(self, step: int) -> None:
    for file in self._files.values():
      file.add(_hides_after(step))

  def close(self) -> None:
    for file in self._files.values():
      file.close()

  def _file(self, split: str) -> RecordFile:
    if split not in self._files:
      # The time is in seconds: a run that resumes within one must not write to the same file.
      name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{self._first_step}"
      self._files[split] = RecordFile(
        self._folder / split / name,
        _event(file_version="brain.Event:2") + _hides_after(self._first_step or -1),
      )
    return self._files[split]


def _event(**fields: Any) -> bytes:
  """Returns an event as a record of TFRecord: a length, its checksum, the event, its checksum."""
  from tensorboardX import record_writer
  from tensorboardX.proto import event_pb2

  data = event_pb2.Event(wall_time=time.time(), **fields).SerializeToString()
  length = struct.pack("<Q", len(data))
  sums = [struct.pack("<I", record_writer.masked_crc32c(part)) for part in (length, data)]
  return b"".join([length, sums[0], data, sums[1]])


def _hides_after(step: int) -> bytes:
  """Returns the event at which TensorBoard drops what it has read of later steps."""
  from tensorboardX.proto import event_pb2

  start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
  return _event(step=step + 1, session_log=start)


def records_until(step: int, content: bytes) -> bytes:
  """Returns the lines of a JSONL file whose "step" is at most `step`; others are no records."""
  # Bytes that are not text are in no record: such lines are dropped as well.
  lines = content.decode(errors="replace").splitlines()
  return "".join(f"{line}\n" for line in lines if _step_of(line) <= step).encode()


def _step_of(line: str) -> float:
  """Returns the step of a record; infinity for a line that is no record."""
  try:
    return float(json.loads(line)["step"])
  except (ValueError, TypeError, KeyError):
    return math.inf


def _number(value: Any) -> int | float:
  """Converts a NumPy or JAX scalar to a Python number."""
  return value if isinstance(value, int | float) else float(value)
