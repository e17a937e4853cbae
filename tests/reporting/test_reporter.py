"""Which records are in the files while a run trains, and when."""

import json

from t5x_style.checkpoints import restoring
from t5x_style.reporting import record_file, reporter, terminal
from t5x_style.training import loop, setup


class ReadingReporter(reporter.RunReporter):
  """Before each step, reads the records that a process killed at this moment would leave."""

  def before_step(self, step):
    lines = self.path.read_text().splitlines() if self.path.exists() else []
    self.left[step] = [(r["split"], r["step"]) for r in map(json.loads, lines)]
    super().before_step(step)


def test_in_a_bucket_every_save_writes_the_records(tiny_config, tmp_path, monkeypatch):
  """A file of a bucket cannot be appended to; here a local file is written in the same way."""
  monkeypatch.setattr(record_file, "is_local", lambda path: False)
  config = tiny_config("decoder_only", tmp_path, train_steps=5, save_period=2, eval_period=2)
  job = restoring.open_run(setup.prepare(config))
  reports = ReadingReporter(job.prepared, 0, terminal.Terminal(enabled=False))
  reports.path, reports.left = tmp_path / "metrics.jsonl", {}
  loop.train(job, reports)
  first = [("train", 1), ("train", 2), ("validation", 2)]
  assert reports.left == {
    1: [],
    2: [],
    3: first,
    4: first,
    5: [*first, ("train", 3), ("train", 4), ("validation", 4)],
  }
