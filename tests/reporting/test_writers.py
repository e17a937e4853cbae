"""Metrics in metrics.jsonl and TensorBoard: what is written, and what a resumed run removes."""

import json
import math
import types

import numpy as np
import pytest

from t5x_style.reporting import record_file, writers
from t5x_style.reporting.writers import JsonLines, MetricWriters, TensorBoard


def strict(line):
  """Reads JSON of the standard, in which NaN is an error."""

  def refuse(name):
    raise ValueError(name)

  return json.loads(line, parse_constant=refuse)


def records(path):
  return [strict(line) for line in path.read_text().splitlines()]


def events(folder):
  """{step: value}, and the steps from which on TensorBoard hides what it has read before."""
  from tensorboardX.proto.event_pb2 import Event

  values, purged = {}, []
  for path in sorted(folder.iterdir()):
    data = path.read_bytes()
    while data:  # Records are a length, its checksum, the event, its checksum.
      length = int.from_bytes(data[:8], "little")
      event = Event.FromString(data[12 : 12 + length])
      data = data[16 + length :]
      if event.HasField("session_log"):
        purged.append(event.step)
      for value in event.summary.value:
        values[event.step] = value.simple_value
  return values, purged


def test_one_object_a_record(tmp_path):
  with MetricWriters(tmp_path / "new" / "run") as all_of_them:
    all_of_them.write(1, "train", {"loss": 2.5, "accuracy": np.float32(0.5)})
    # The record is in the file before anything is closed.
    assert len(records(tmp_path / "new/run/metrics.jsonl")) == 1
    all_of_them.write(2, "validation", {"loss": 2.0})
  assert (tmp_path / "new/run/metrics.jsonl").read_text() == (
    '{"step": 1, "split": "train", "loss": 2.5, "accuracy": 0.5}\n'
    '{"step": 2, "split": "validation", "loss": 2.0}\n'
  )


def test_values_that_json_does_not_have(tmp_path):
  out = JsonLines(tmp_path / "m.jsonl")
  out.write(1, "train", {"loss": math.nan, "grad_norm": np.float32("inf"), "mfu": 0.5})
  out.close()
  assert records(tmp_path / "m.jsonl") == [
    {
      "step": 1,
      "split": "train",
      "loss": None,
      "grad_norm": None,
      "mfu": 0.5,
      "not_finite": {"loss": "nan", "grad_norm": "inf"},
    }
  ]


def test_resuming_drops_later_records_and_a_torn_line(tmp_path):
  path = tmp_path / "m.jsonl"
  out = JsonLines(path)
  for step in (5, 10, 15):
    out.write(step, "train", {"loss": 1.0 / step})
    out.write(step, "validation", {"loss": 2.0 / step})
  out.close()
  with path.open("a") as file:
    file.write('{"step": 3, "split": "tr')
  out = JsonLines(path, first_step=10)
  assert [(r["step"], r["split"]) for r in records(path)] == [
    (5, "train"),
    (5, "validation"),
    (10, "train"),
    (10, "validation"),
  ]
  out.write(11, "train", {"loss": 0.0})
  out.close()
  assert [r["step"] for r in records(path)] == [5, 5, 10, 10, 11]
  assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_resuming_after_the_last_record_does_not_rewrite_the_file(tmp_path):
  path = tmp_path / "m.jsonl"
  path.write_text('{"step": 5, "loss": 1.0}\n')
  before = path.stat().st_ino
  JsonLines(path, first_step=5).close()
  assert path.stat().st_ino == before


def test_a_new_run_begins_with_an_empty_log(tmp_path):
  path = tmp_path / "m.jsonl"
  path.write_text('{"step": 5, "loss": 1.0}\n')
  JsonLines(path, first_step=0).close()
  assert path.read_text() == ""


def test_a_new_run_keeps_no_record_of_step_0(tmp_path):
  """A run that was killed before its first checkpoint evaluates its initial parameters again."""
  for loss in (3.0, 2.0):
    with MetricWriters(tmp_path) as log:
      log.write(0, "validation", {"loss": loss})
      log.write(1, "train", {"loss": 1.0})
  found = records(tmp_path / "metrics.jsonl")
  assert [(record["step"], record["loss"]) for record in found] == [(0, 2.0), (1, 1.0)]
  assert 0 in events(tmp_path / "tensorboard" / "validation")[1]
  with MetricWriters(tmp_path, first_step=1):
    assert records(tmp_path / "metrics.jsonl") == found


def test_a_crash_while_the_log_is_cut_leaves_the_old_one(tmp_path, monkeypatch):
  path = tmp_path / "m.jsonl"
  path.write_text('{"step": 6}\n{"step": 5}\n')  # A file whose end is dropped is only cut.

  def crash(self, target):
    raise KeyboardInterrupt

  monkeypatch.setattr(type(writers.epath.Path(path)), "replace", crash)
  with pytest.raises(KeyboardInterrupt):
    JsonLines(path, first_step=5)
  assert path.read_text() == '{"step": 6}\n{"step": 5}\n'


def test_in_a_bucket_the_log_is_written_as_a_whole(tmp_path, monkeypatch):
  monkeypatch.setattr(record_file, "is_local", lambda path: False)
  path = tmp_path / "m.jsonl"
  path.write_text('{"step": 1, "split": "train"}\n')
  out = JsonLines(path, first_step=1)
  out.write(2, "train", {"loss": 1.0})
  out.flush()
  assert [r["step"] for r in records(path)] == [1, 2]


def test_tensorboard_events(tmp_path):
  for first_step in (0, 3):
    out = TensorBoard(tmp_path, first_step)
    for step in range(first_step + 1, first_step + 4):
      out.write(step, "train", {"loss": 1.0 * step})
    out.close()
  values, purged = events(tmp_path / "tensorboard" / "train")
  assert values == {step: float(step) for step in range(1, 7)}
  assert purged[-1] == 4  # What a resumed run had logged beyond step 3 is hidden.


def test_tensorboard_reads_the_events(tmp_path):
  accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
  with MetricWriters(tmp_path) as out:
    for step in (1, 2, 3):
      out.write(step, "train", {"loss": 0.5 * step})
    out.rewind(1)
    out.write(2, "train", {"loss": 7.0})
  read = accumulator.EventAccumulator(str(tmp_path / "tensorboard/train")).Reload()
  assert [(x.step, x.value) for x in read.Scalars("loss")] == [(1, 0.5), (2, 7.0)]
  assert [r["loss"] for r in records(tmp_path / "metrics.jsonl")] == [0.5, 7.0]


def test_a_full_disk_ends_nothing_and_no_record_is_lost(tmp_path, no_room):
  with MetricWriters(tmp_path) as out:
    out.write(1, "train", {"loss": 1.0})
    with no_room(), pytest.warns(UserWarning, match="metrics cannot be written") as said:
      for step in range(2, 50):
        out.write(step, "train", {"loss": 1.0 * step})
        out.flush()  # As before a save.
    assert len(said) == 1
    assert records(tmp_path / "metrics.jsonl") == [{"step": 1, "split": "train", "loss": 1.0}]
    out.write(50, "train", {"loss": 50.0})
  expected = {step: float(step) for step in range(1, 51)}
  assert {r["step"]: r["loss"] for r in records(tmp_path / "metrics.jsonl")} == expected
  assert events(tmp_path / "tensorboard/train")[0] == expected


def test_records_that_are_lost_at_the_end_are_said_to_be(tmp_path, no_room):
  with pytest.warns(UserWarning, match="the last ones are lost"), no_room():
    with MetricWriters(tmp_path) as out:
      out.write(1, "train", {"loss": 1.0})


def test_a_writer_that_fails_does_not_keep_the_others_from_writing(tmp_path):
  out = MetricWriters(tmp_path)

  def fail(*_):
    raise RuntimeError("no network")

  out._writers.insert(0, types.SimpleNamespace(write=fail, flush=fail, rewind=fail, close=fail))
  with pytest.warns(UserWarning, match="RuntimeError: no network"):
    out.write(1, "train", {"loss": 1.0})
    out.close()
  assert len(records(tmp_path / "metrics.jsonl")) == 1


def test_only_the_first_process_writes(tmp_path, monkeypatch):
  monkeypatch.setattr(writers.jax, "process_index", lambda: 1)
  with MetricWriters(tmp_path / "run") as none_of_them:
    none_of_them.write(1, "train", {"loss": 1.0})
  assert not (tmp_path / "run").exists()
