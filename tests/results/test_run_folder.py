"""The folder of a run is read whatever happened to the run."""

import json
import math

import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.results import run_folder


def test_curves_are_what_was_recorded(write_run, train_record):
  records = [train_record(step, loss=9 - step / 10) for step in (10, 20, 30)]
  records.insert(2, {"step": 20, "split": "validation", "loss": 7.5, "seconds": 11.0})
  run = run_folder.read(write_run(records=records, run_info__json={"step_flops": 2e9}))
  curve = run.curve("train", "loss")
  assert curve.steps.tolist() == [10, 20, 30]
  assert curve.values.tolist() == [8, 7, 6]
  assert curve.tokens.tolist() == [5120, 10240, 15360]
  assert curve.flops.tolist() == [2e10, 4e10, 6e10]
  assert curve.seconds.tolist() == [5, 10, 15]
  assert run.curve("validation", "loss").seconds.tolist() == [11]
  assert run.curve("validation", "grad_norm") is None
  assert run.names("validation") == ["loss"] and run.splits() == ["train", "validation"]
  assert "tokens" not in run.names("train") and "grad_norm" in run.names("train")


def test_tokens_of_evaluations_are_between_those_of_training(write_run, train_record):
  records = [train_record(10, tokens=1000), train_record(20, tokens=3000)]
  records += [{"step": step, "split": "validation", "loss": 1.0} for step in (5, 15, 20, 25)]
  curve = run_folder.read(write_run(records=records)).curve("validation", "loss")
  assert curve.tokens.tolist() == [500, 2000, 3000, 4000]
  records = [{**record, "tokens": None} for record in records]
  curve = run_folder.read(write_run("old", records)).curve("validation", "loss")
  assert np.isnan(curve.tokens).all() and np.isnan(curve.flops).all()


def test_flops_of_an_older_run_are_in_its_model_info(write_run, train_record):
  info = "parameters  5,278,976\nFLOPs of a step       3.165e+10  (3 x forward matrix products)\n"
  folder = write_run(records=[train_record(2)])
  (folder / "model-info.txt").write_text(info)
  assert run_folder.read(folder).curve("train", "loss").flops.tolist() == [6.33e10]


def test_a_line_that_is_being_written_is_left_out(write_run, train_record):
  folder = write_run(records=[train_record(10), train_record(20)])
  whole = (folder / "metrics.jsonl").read_bytes()
  for cut in range(len(whole)):
    (folder / "metrics.jsonl").write_bytes(whole[:cut])
    run = run_folder.read(folder)
    assert run.damaged_lines == 0
    # A record without only its line end is complete.
    assert len(run.records) == whole[:cut].count(b"}")
  (folder / "metrics.jsonl").write_bytes(whole)
  assert len(run_folder.read(folder).records) == 2


def test_damaged_lines_are_counted_and_left_out(write_run, train_record):
  folder = write_run(records=[train_record(10)])
  bad = [
    b"\xff\xfe\x00",
    b"[1, 2]",
    b'{"step": "x", "split": "train"}',
    b'{"step": 3}',
    b"{,}",
    b'{"step": 3, "split": "train", "not_finite": "nan"}',
    b"",
  ]
  good = json.dumps(train_record(20)).encode()
  (folder / "metrics.jsonl").write_bytes(b"\n".join([*bad, good, b""]))
  run = run_folder.read(folder)
  assert [record["step"] for record in run.records] == [20]
  assert run.damaged_lines == 6


def test_values_that_json_does_not_have(write_run):
  records = [
    {"step": 1, "split": "train", "loss": None, "not_finite": {"loss": "nan"}},
    {"step": 2, "split": "train", "loss": None, "not_finite": {"loss": "inf"}},
    {"step": 3, "split": "train", "loss": "text"},
    {"step": 4, "split": "train", "loss": True},
  ]
  values = run_folder.read(write_run(records=records)).curve("train", "loss").values
  assert [str(x) for x in values] == ["nan", "inf", "nan", "nan"]


def test_the_last_record_of_a_step_counts_and_steps_are_in_order(write_run, train_record):
  records = [train_record(20, loss=5.0), train_record(10, loss=6.0), train_record(20, loss=4.0)]
  curve = run_folder.read(write_run(records=records)).curve("train", "loss")
  assert curve.steps.tolist() == [10, 20] and curve.values.tolist() == [6, 4]


def test_other_files_may_be_missing_or_damaged(write_run):
  folder = write_run()
  empty = run_folder.read(folder)
  assert (empty.records, empty.samples, empty.info, empty.heartbeat) == ((), (), {}, {})
  assert empty.last_step == 0 and math.isnan(empty.step_flops)
  assert empty.settings["BATCH_SIZE"] == "16"
  (folder / "run-info.json").write_text('{"step_flops"')
  (folder / "heartbeat.json").write_text("[1]")
  (folder / "samples.jsonl").write_text('{"step": 5}\n{"step": 6, "sample": {"a": "b"}}\n{"st')
  (folder / "metrics.jsonl").unlink()
  run = run_folder.read(folder)
  assert (run.info, run.heartbeat, run.samples) == ({}, {}, ((6, {"a": "b"}),))


def test_skipped_steps_have_their_reasons(write_run):
  folder = write_run()
  (folder / "skipped_batches").mkdir()
  for name, reason in (("33-0", "not finite"), ("7-0", "a spike"), ("33-1", "not finite")):
    line = json.dumps({"step": 1, "reason": reason, "row": 0})
    (folder / "skipped_batches" / f"{name}.jsonl").write_text(f"{line}\n{line}\n")
  assert run_folder.read(folder).skipped == {7: "a spike", 33: "not finite"}


def test_a_folder_without_a_run_is_refused_with_the_one_that_is_meant(write_run, tmp_path):
  folder = write_run("runs/one")
  (folder / "checkpoints").mkdir()
  with pytest.raises(UserError, match=f"There is no folder {tmp_path}/none; name the MODEL_DIR"):
    run_folder.read(tmp_path / "none")
  with pytest.raises(UserError, match=f"checkpoints is no MODEL_DIR.*Did you mean {folder}\\?"):
    run_folder.read(folder / "checkpoints")
  with pytest.raises(UserError, match=f"metrics.jsonl is no MODEL_DIR.*Did you mean {folder}\\?"):
    run_folder.read(folder / "metrics.jsonl")
  with pytest.raises(UserError, match=f"runs is no MODEL_DIR.*Did you mean {folder}\\?"):
    run_folder.read(tmp_path / "runs")
  (tmp_path / "empty").mkdir()
  with pytest.raises(UserError, match="empty is no MODEL_DIR: .* there.$"):
    run_folder.read(tmp_path / "empty/")


def test_names_tell_runs_apart(write_run):
  runs = [run_folder.read(write_run(name)) for name in ("a/one", "b/one", "b/two")]
  assert run_folder.short_names(runs[1:]) == ["one", "two"]
  assert run_folder.short_names(runs) == ["a/one", "b/one", "b/two"]
  assert run_folder.short_names(runs[:1]) == ["one"]
