"""What a folder of checkpoints holds is read from names and small files."""

import datetime
import json
import os

import pytest
from etils import epath

from t5x_style.checkpoints import inventory, step_folders
from t5x_style.checkpoints.inventory import Kind
from t5x_style.errors import UserError

SAVED = datetime.datetime(2026, 5, 17, 12, 30, tzinfo=datetime.UTC)


def add(folder, *, size=0, saved=None, run=None):
  """Makes a checkpoint whose arrays have `size` bytes."""
  (folder / "state" / "d").mkdir(parents=True)
  (folder / "state" / "d" / "x").write_bytes(b"1" * size)
  if run is not None:
    (folder / "run").mkdir()
    (folder / "run" / "metadata").write_text(json.dumps(run))
  if saved is not None:
    (folder / "commit_success.txt").write_text("")
    os.utime(folder / "commit_success.txt", (saved.timestamp(), saved.timestamp()))


@pytest.fixture
def run(tmp_path):
  """A MODEL_DIR with steps 5, 10 and 20, an unfinished and two damaged ones."""
  folder = tmp_path / "checkpoints"
  for step in (5, 20):
    add(folder / str(step))
  add(folder / "10", size=3000, saved=SAVED, run={"guard": {"skipped": 4}, "digests": {"step": 10}})
  add(folder / "30.orbax-checkpoint-tmp", size=10)
  add(folder / "damaged-10")
  add(folder / "damaged-10-2")
  (folder / "notes").mkdir()
  records = [
    {"step": 5, "split": "validation", "loss": 9.0},
    {"step": 5, "split": "train", "loss": 1.0},
    {"step": 5, "split": "validation", "loss": 3.5},  # after it was started again
    {"step": 20, "split": "validation", "loss": 2.5},
    {"step": 30, "split": "validation", "loss": 3.0},
  ]
  lines = [json.dumps(record) for record in records]
  (tmp_path / "metrics.jsonl").write_text("\n".join([*lines[:2], '{"validation', *lines[2:]]))
  return tmp_path


def test_entries_are_of_every_kind_and_sorted_by_step(run):
  found = inventory.entries(inventory.checkpoints_folder(run))
  assert [(x.path.name, x.step, x.kind) for x in found] == [
    ("5", 5, Kind.COMPLETE),
    ("10", 10, Kind.COMPLETE),
    ("damaged-10", 10, Kind.DAMAGED),
    ("damaged-10-2", 10, Kind.DAMAGED),
    ("20", 20, Kind.COMPLETE),
    ("30.orbax-checkpoint-tmp", 30, Kind.UNFINISHED),
  ]
  assert [x.validation_loss for x in found] == [3.5, None, None, None, 2.5, None]
  ten = found[1]
  assert (ten.saved, ten.skipped_steps, ten.has_digests) == (SAVED, 4, True)
  files = [path for path in (run / "checkpoints/10").rglob("*") if path.is_file()]
  assert ten.size == sum(path.stat().st_size for path in files) > 3000
  assert found[0].saved is not None and found[0].skipped_steps is None


@pytest.mark.parametrize("place", ["", "checkpoints"])
def test_a_run_and_its_folder_mean_the_same(run, place):
  folder = inventory.checkpoints_folder(run / place)
  assert folder == epath.Path(run / "checkpoints")
  assert [path.name for path in inventory.complete(folder)] == ["5", "10", "20"]


def test_one_checkpoint_is_itself(run, tmp_path):
  for place, step in ((run / "checkpoints/10", 10), (tmp_path / "imported2", None)):
    if step is None:
      add(place)
    assert inventory.checkpoints_folder(place) == epath.Path(place)
    assert inventory.complete(epath.Path(place)) == [place]
    (entry,) = inventory.entries(epath.Path(place))
    assert (entry.step, entry.kind) == (step, Kind.COMPLETE)


def test_an_empty_folder_named_like_a_step_is_not_whole(run):
  (run / "checkpoints/40").mkdir()
  found = inventory.entries(epath.Path(run / "checkpoints"))
  assert found[-1].note.startswith("not whole")
  assert [x.note for x in found[:-1]] == [""] * 6


def test_the_loss_that_was_saved_with_a_step_counts_first(run):
  add(run / "checkpoints/30", run={"validation_loss": 2.75})
  found = {
    x.path.name: x.validation_loss for x in inventory.entries(epath.Path(run / "checkpoints"))
  }
  assert (found["30"], found["20"]) == (2.75, 2.5)


def test_in_a_bucket_a_step_without_marker_is_unfinished(run, monkeypatch):
  monkeypatch.setattr(step_folders, "renames", lambda path: False)
  folder = epath.Path(run / "checkpoints")
  kinds = {x.path.name: x.kind for x in inventory.entries(folder)}
  assert (kinds["10"], kinds["20"]) == (Kind.COMPLETE, Kind.UNFINISHED)
  assert [path.name for path in inventory.complete(folder)] == ["10"]
  assert inventory.complete(folder / "20") == []
  assert inventory.entries(folder / "20")[0].kind is Kind.UNFINISHED


def test_damaged_files_of_json_are_as_none(run):
  (run / "checkpoints/10/run/metadata").write_text("[1, 2")
  ten = inventory.entries(epath.Path(run / "checkpoints"))[1]
  assert ten.skipped_steps is None and ten.saved is not None


def test_where_there_are_none_it_is_said(tmp_path):
  (tmp_path / "file").write_text("")
  (tmp_path / "empty/checkpoints").mkdir(parents=True)
  for place, message in (("no", "does not exist"), ("file", "is a file"), ("empty", "holds no")):
    with pytest.raises(UserError, match=f"{place}' {message}.*; give a MODEL_DIR"):
      inventory.checkpoints_folder(tmp_path / place)
  with pytest.raises(UserError, match="neither a local path nor gs://"):
    inventory.checkpoints_folder("s3://bucket/run")
