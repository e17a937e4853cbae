"""SIGTERM: the run saves and stops, and the next start does what was due."""

import dataclasses
import signal

import pytest

from t5x_style.checkpoints import restoring
from t5x_style.reporting import reporter, terminal
from t5x_style.training import loop, preemption, setup
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

  def epochs(self):
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
  assert not stopped.complete
  assert (tmp_path / "checkpoints" / "2").exists()
  assert tiny.records(tmp_path, "validation") == []
  again = tiny.train(config)
  assert (again.stopped_by, again.complete) == (None, True)
  assert [record["step"] for record in tiny.records(tmp_path, "validation")] == [2, 4]


class Batches(list):
  """Held-out batches; sends a signal when the last one is read, once an evaluation is complete."""

  def __init__(self, batches, before):
    super().__init__(batches)
    self.evaluations = -before - 2  # The unigram entropy is computed first.

  def __iter__(self):
    self.evaluations += 1
    for number, batch in enumerate(super().__iter__()):
      if self.evaluations == 0 and number == len(self) - 1:
        signal.raise_signal(signal.SIGTERM)
      yield batch


@pytest.mark.parametrize(("before", "step"), [(0, 2), (1, 4)])
def test_an_evaluation_under_way_is_left_and_made_at_the_next_start(
  before, step, tiny_config, tmp_path
):
  """Also the one after the last step."""
  config = tiny_config("decoder_only", tmp_path, train_steps=4, eval_period=2, eval_batches=3)
  job = restoring.open_run(setup.prepare(config))
  job.eval_batches = Batches(job.eval_batches, before)
  reports = reporter.RunReporter(job.prepared, 0, terminal.Terminal(enabled=False))
  stopped = loop.train(job, reports)
  assert (stopped.stopped_by, int(stopped.state.step), stopped.complete) == ("SIGTERM", step, False)
  assert [r["step"] for r in tiny.records(tmp_path, "validation")] == [2, 4][:before]
  assert (tmp_path / "checkpoints" / str(step)).exists()
  assert tiny.train(config).complete
  assert [r["step"] for r in tiny.records(tmp_path, "validation")] == [2, 4]


def test_a_stop_in_the_evaluation_that_was_due_leaves_it_due(tiny_config, tmp_path):
  config = tiny_config("decoder_only", tmp_path, train_steps=2, eval_period=2, eval_batches=3)
  for _ in range(2):  # At the second start the signal comes in the evaluation that is due.
    job = restoring.open_run(setup.prepare(config))
    job.eval_batches = Batches(job.eval_batches, 0)
    reports = reporter.RunReporter(job.prepared, job.first_step, terminal.Terminal(enabled=False))
    stopped = loop.train(job, reports)
    assert (stopped.stopped_by, int(stopped.state.step), stopped.complete) == ("SIGTERM", 2, False)
    assert tiny.records(tmp_path, "validation") == []
  assert tiny.train(config).complete
  assert [r["step"] for r in tiny.records(tmp_path, "validation")] == [2]


def test_a_signal_that_is_ignored_stays_so():
  """nohup ignores SIGHUP, which says that the terminal is gone; else it is like SIGTERM."""
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with preemption.StopSignal() as stop:
      signal.raise_signal(signal.SIGHUP)
      assert stop.requested() is None
    signal.signal(signal.SIGHUP, lambda *_: None)
    with preemption.StopSignal() as stop:
      signal.raise_signal(signal.SIGHUP)
      assert stop.requested() == "SIGHUP"
  finally:
    signal.signal(signal.SIGHUP, before)
