"""SIGTERM: the run saves and stops, and the next start does what was due."""

import dataclasses
import signal

from tests import tiny


class Stopping:
  """A dataset, as its own iterator; sends SIGTERM while its second batch is fetched."""

  def __init__(self, dataset):
    self._dataset, self._number = dataset, 0

  def __getattr__(self, name):
    return getattr(self._dataset, name)

  def train(self):
    return self

  def __next__(self):
    self._number += 1
    if self._number == 2:
      signal.raise_signal(signal.SIGTERM)
    return self._dataset.batch(0)

  def get_state(self):
    return {}

  def skipped(self):
    return ""

  def set_state(self, state):
    self._number = 2


def test_a_stop_saves_before_a_due_evaluation_and_the_next_start_evaluates(tiny_config, tmp_path):
  config = tiny_config("decoder_only", tmp_path, train_steps=4, eval_period=2, log_period=50)
  load = config.dataset
  config = dataclasses.replace(config, dataset=lambda **kw: Stopping(load(**kw)))
  stopped = tiny.train(config)
  assert (stopped.stopped_by, int(stopped.state.step)) == ("SIGTERM", 2)
  assert (tmp_path / "checkpoints" / "2").exists()
  assert tiny.records(tmp_path, "validation") == []
  assert tiny.train(config).stopped_by is None
  assert [record["step"] for record in tiny.records(tmp_path, "validation")] == [2, 4]
