"""Writes metrics to metrics.jsonl, to TensorBoard events and, on request, to W&B."""

import json
import math
import os
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

import jax
from etils import epath

from t5x_style.errors import UserError


class Writer(Protocol):
  """One place that records are written to."""

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None: ...

  def flush(self) -> None: ...

  def close(self) -> None: ...


class MetricWriters:
  """All places that the records of one run are written to; only the first process writes.

  A run that resumes from step k first removes every record of a later step, so the logs read as if
  it had never stopped.
  """

  def __init__(self, model_dir: str | os.PathLike, first_step: int = 0):
    """Opens all writers.

    Args:
      model_dir: where metrics.jsonl and tensorboard/ are.
      first_step: the step that the run resumes from, 0 for a new one.

    Raises:
      UserError: WANDB_PROJECT is set and wandb is not installed.
    """
    self._writers: list[Writer] = []
    if jax.process_index() == 0:
      path = epath.Path(model_dir)
      path.mkdir(parents=True, exist_ok=True)
      self._writers = [JsonLines(path / "metrics.jsonl", first_step), TensorBoard(path, first_step)]
      if os.environ.get("WANDB_PROJECT"):
        self._writers.append(WeightsAndBiases(path))

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Adds a record: the values after `step` steps on `split` ("train", "validation")."""
    for writer in self._writers:
      writer.write(step, split, values)

  def flush(self) -> None:
    for writer in self._writers:
      writer.flush()

  def close(self) -> None:
    for writer in self._writers:
      writer.close()

  def __enter__(self) -> "MetricWriters":
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()


class JsonLines:
  """One JSON object a line: {"step": 20, "split": "train", "loss": 5.1, ...}.

  JSON has no NaN and no infinity. Such a value is null, and "not_finite" says what it was:
  {"step": 20, "split": "train", "loss": null, "not_finite": {"loss": "nan"}}.
  """

  def __init__(self, path: str | os.PathLike, first_step: int = 0):
    """Opens the file after its last record of step `first_step` or earlier.

    Records of later steps, and a line that a killed process left unfinished, are dropped: the file
    is rewritten under another name, which then replaces the old one.
    """
    self._path = epath.Path(path)
    # Bytes that are not text are in no record: such lines are dropped as well.
    text = self._path.read_bytes().decode(errors="replace") if self._path.exists() else ""
    lines = [line for line in text.splitlines() if _step_of(line) <= first_step]
    self._text = "".join(f"{line}\n" for line in lines)
    if self._text != text:
      self._replace()
    # Files in buckets cannot be appended to: the file is small enough to be written as a whole.
    self._file = open(path, "a") if _is_local(self._path) else None

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    odd = {name: str(float(x)) for name, x in values.items() if not math.isfinite(x)}
    plain = {name: None if name in odd else _number(x) for name, x in values.items()}
    record: dict[str, Any] = {"step": int(step), "split": split, **plain}
    if odd:
      record["not_finite"] = odd
    line = json.dumps(record, allow_nan=False) + "\n"
    if self._file:
      self._file.write(line)
      self._file.flush()  # A process killed later loses nothing that was written.
    else:
      self._text += line

  def flush(self) -> None:
    if not self._file:
      self._replace()

  def close(self) -> None:
    self.flush()
    if self._file:
      self._file.close()

  def _replace(self) -> None:
    part = self._path.parent / f".{self._path.name}.part"
    part.write_text(self._text)
    part.replace(self._path)


class TensorBoard:
  """TensorBoard events under MODEL_DIR/tensorboard; each split is a curve of the same plot."""

  def __init__(self, model_dir: str | os.PathLike, first_step: int = 0):
    """Opens a new event file; TensorBoard hides what older ones have beyond `first_step`."""
    self._folder = epath.Path(model_dir) / "tensorboard"
    self._first_step = first_step
    self._writers: dict[str, Any] = {}
    for path in self._folder.iterdir() if self._folder.exists() else ():
      if path.name != "plugins":  # The profiler writes there.
        self._writer(path.name)  # Purges also splits whose next record is far away.

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    for name, value in values.items():
      self._writer(split).add_scalar(name, float(value), step)

  def flush(self) -> None:
    for writer in self._writers.values():
      writer.flush()

  def close(self) -> None:
    for writer in self._writers.values():
      writer.close()

  def _writer(self, split: str) -> Any:
    from tensorboardX import SummaryWriter  # Only this function needs it.

    if split not in self._writers:
      self._writers[split] = SummaryWriter(
        str(self._folder / split),
        purge_step=self._first_step + 1,
        flush_secs=30,
        # The name ends in a second: a run that resumes within it must not overwrite the file.
        filename_suffix=f".{self._first_step}",
      )
    return self._writers[split]


class WeightsAndBiases:
  """Sends records as `train/loss`, ... to the project that WANDB_PROJECT names.

  MODEL_DIR/wandb-id.txt holds the id of the run, so that a resumed run is the same run there.
  """

  def __init__(self, model_dir: str | os.PathLike):
    try:
      import wandb
    except ImportError as error:
      raise UserError(
        f"WANDB_PROJECT = {os.environ.get('WANDB_PROJECT')!r} is set, but wandb is not installed; "
        "pip install 't5x_style[wandb]', or unset it."
      ) from error
    id_file = epath.Path(model_dir) / "wandb-id.txt"
    if not id_file.exists():
      id_file.write_text(uuid.uuid4().hex[:16])
    self._run = wandb.init(
      id=id_file.read_text().strip(),
      name=epath.Path(model_dir).name,
      resume="allow",
      dir=str(model_dir) if _is_local(epath.Path(model_dir)) else None,
    )
    # W&B's own step only grows; with this one a resumed run replaces its last records.
    self._run.define_metric("*", step_metric="step")

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    self._run.log({"step": step, **{f"{split}/{name}": value for name, value in values.items()}})

  def flush(self) -> None:
    pass  # It sends what it has by itself.

  def close(self) -> None:
    self._run.finish()


def _step_of(line: str) -> float:
  """Returns the step of a record; infinity for a line that is no record."""
  try:
    return float(json.loads(line)["step"])
  except (ValueError, TypeError, KeyError):
    return math.inf


def _number(value: Any) -> int | float:
  """Converts a NumPy or JAX scalar to a Python number."""
  return value if isinstance(value, int | float) else float(value)


def _is_local(path: epath.Path) -> bool:
  return "://" not in os.fspath(path)
