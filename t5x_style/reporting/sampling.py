"""Samples of what the model of a run writes, in MODEL_DIR/samples.jsonl and in the summary.

    {"step": 400, "sample": {"held-out text 1; ...": "...", "1: the truth": "...", ...}}

The texts are those of t5x_style.inference.samples, always of the same held-out rows.
"""

import json
import warnings
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils

from t5x_style.errors import first_line
from t5x_style.inference.classification import labelled_sample
from t5x_style.inference.samples import sample
from t5x_style.partitioning import total_bytes
from t5x_style.reporting.record_file import RecordFile
from t5x_style.reporting.writers import records_until
from t5x_style.training.job import Job

FILE = "samples.jsonl"
# Parameters of several processes are gathered in the first one to write a sample up to this size.
_GATHERED_BYTES = 2**30


class Sampler:
  """Takes samples of a run and keeps them in MODEL_DIR/samples.jsonl.

  A run that evaluates a hundred times takes eight samples: after evaluations 1, 2, 4, ... 64, and
  one for its summary. What goes wrong never ends a run.
  """

  def __init__(self, job: Job):
    """Drops the samples after the step that the run resumes from."""
    self._job = job
    self._file = RecordFile(job.prepared.model_dir / FILE) if jax.process_index() == 0 else None
    self._last: tuple[int, dict[str, str]] = (-1, {})
    self.rewind(job.first_step or -1)

  def follow(self, job: Job) -> None:
    """Takes samples of the held-out rows of another stage of the run from now on."""
    self._job = job

  def is_due(self, step: int) -> bool:
    """Returns whether a sample is taken after the evaluation at a step.

    The last one is left to the summary; several processes sample only there.
    """
    config = self._job.prepared.config
    evaluations = step // config.eval_period
    on_the_way = step < config.train_steps and jax.process_count() == 1
    return on_the_way and evaluations.bit_count() == 1

  def take(self, step: int, params: Any) -> dict[str, str]:
    """Returns what the model writes after `step` steps, and adds it to the file.

    All processes of the job have to call this. A sample of the same step is not taken twice.
    """
    if self._last[0] != step:
      self._last = (step, take_sample(self._job, params))
      self._add(step, self._last[1])
    return self._last[1]

  def rewind(self, step: int) -> None:
    """Removes the samples of later steps."""
    self._last = (-1, {})
    if self._file:
      try:
        self._job.prepared.model_dir.mkdir(parents=True, exist_ok=True)
        self._file.keep(lambda content: records_until(step, content))
      except Exception as error:  # Errors of buckets are no OSErrors.
        self._warn(error)

  def _add(self, step: int, texts: dict[str, str]) -> None:
    if self._file and texts:
      try:
        # The same command again, after the last step, takes the last sample once more.
        self._file.keep(lambda content: records_until(step - 1, content))
        self._file.add(f"{json.dumps({'step': step, 'sample': texts})}\n".encode())
        self._file.flush()
      except Exception as error:
        self._warn(error)

  def _warn(self, error: Exception) -> None:
    path = epath.Path(self._job.prepared.model_dir) / FILE
    warnings.warn(f"{path} cannot be written ({first_line(error)}).", stacklevel=3)


def take_sample(job: Job, params: Any) -> dict[str, str]:
  """Returns text that a model writes on held-out examples, in the first process.

  All processes of the job have to call this. Returns {} if the model spans several processes and is
  too large to be gathered in one.
  """
  if jax.process_count() == 1:
    with job.prepared.partitioner.context():
      return _sample_or_reason(job, params)
  if total_bytes(params) > _GATHERED_BYTES:
    return {}
  params = multihost_utils.process_allgather(params, tiled=True)
  written = {}
  if jax.process_index() == 0:
    with jax.default_device(jax.local_devices()[0]):
      written = _sample_or_reason(job, params)
  multihost_utils.sync_global_devices("closing sample")
  return written


def _sample_or_reason(job: Job, params: Any) -> dict[str, str]:
  """Returns a sample, or why there is none: an error must not end a run."""
  prepared = job.prepared
  model, dataset = prepared.loss.model, prepared.dataset
  try:
    if dataset.label_names:
      batch = job.eval_batches[0]
      return labelled_sample(model, params, batch, dataset.decode, dataset.label_names)
    return sample(model, params, job.eval_batches[0], dataset.decode, dataset.special_ids)
  except Exception as error:
    return {"no sample could be made": f"{type(error).__name__}: {error}"}
