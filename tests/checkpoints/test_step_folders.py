"""Only complete steps are found, on a disk and in a bucket, and nothing else is touched."""

import pytest
from etils import epath

from t5x_style.checkpoints import step_folders
from t5x_style.errors import UserError


@pytest.fixture(params=["disk", "bucket"])
def checkpoints(request, tmp_path, monkeypatch):
  """A folder of checkpoints whose rules are those of a local disk, or those of gs://."""
  monkeypatch.setattr(step_folders, "renames", lambda path: request.param == "disk")
  return epath.Path(tmp_path) / "checkpoints"


def write(checkpoints, step, complete=True):
  folder = step_folders.begin(checkpoints, step)
  (folder / "state").mkdir()
  (folder / "state" / "array").write_text("0")
  if complete:
    step_folders.commit(checkpoints, step)


def test_a_step_exists_once_it_is_complete(checkpoints):
  assert step_folders.complete_steps(checkpoints) == []
  for step in (9, 10):
    write(checkpoints, step)
  write(checkpoints, 20, complete=False)
  assert step_folders.complete_steps(checkpoints) == [9, 10]
  for path in (checkpoints.parent, checkpoints, checkpoints / "10"):
    assert step_folders.find_step(path) == checkpoints / "10"
  with pytest.raises(UserError, match="save was interrupted"):
    step_folders.find_step(step_folders.unfinished(checkpoints, 20))
  step_folders.commit(checkpoints, 20)
  assert step_folders.find_step(checkpoints) == checkpoints / "20"


def test_a_step_is_never_written_over(checkpoints):
  write(checkpoints, 5)
  with pytest.raises(OSError, match="exists already"):
    step_folders.begin(checkpoints, 5)
  assert (checkpoints / "5/state/array").exists()


def test_what_an_interrupted_save_left_is_removed_and_nothing_else(checkpoints):
  write(checkpoints, 1)
  write(checkpoints, 2, complete=False)
  (checkpoints / "damaged-1").mkdir()
  (checkpoints / "damaged-2.orbax-checkpoint-tmp").mkdir()
  assert step_folders.remove_leftovers(checkpoints, 2)
  assert not step_folders.remove_leftovers(checkpoints, 2)
  names = {path.name for path in checkpoints.iterdir()}
  assert names == {"1", "damaged-1", "damaged-2.orbax-checkpoint-tmp"}
  write(checkpoints, 2)
  step_folders.remove(checkpoints, 1)
  assert step_folders.complete_steps(checkpoints) == [2]
  assert not (checkpoints / "1").exists()


def test_in_a_bucket_only_the_step_that_failed_is_removed(tmp_path, monkeypatch):
  """A step without a marker may have been copied there from a disk."""
  monkeypatch.setattr(step_folders, "renames", lambda path: False)
  checkpoints = epath.Path(tmp_path)
  for step in (1, 2):
    write(checkpoints, step, complete=False)
  step_folders.remove_leftovers(checkpoints, 2)
  assert [path.name for path in checkpoints.iterdir()] == ["1"]


def test_buckets_are_known_by_their_names():
  assert not step_folders.renames("gs://bucket/run")
  assert step_folders.renames(epath.Path("/disk/run"))
