"""MODEL_DIR is checked before anything is compiled: files are files, folders are folders."""

import errno

import pytest

from t5x_style.checkpoints import model_dir
from t5x_style.errors import StorageError, UserError


@pytest.mark.parametrize(
  "name", ["checkpoints", "checkpoints/5", "tensorboard", "tensorboard/train"]
)
def test_a_file_where_a_folder_has_to_be(name, epath_of, tmp_path):
  (tmp_path / name).parent.mkdir(exist_ok=True)
  (tmp_path / name).write_text("")
  with pytest.raises(UserError, match=f"MODEL_DIR = .*: {name} has to be a folder, and is a file"):
    model_dir.check(epath_of)


@pytest.mark.parametrize(
  "name", ["config.gin", "model-info.txt", "metrics.jsonl", "profile-2-3.txt"]
)
def test_a_folder_where_a_file_has_to_be(name, epath_of, tmp_path):
  (tmp_path / name).mkdir()
  with pytest.raises(UserError, match=f"MODEL_DIR = .*: {name} has to be a file, and is a folder"):
    model_dir.check(epath_of)


def test_the_folder_may_hold_an_earlier_run_and_other_files(epath_of, tmp_path):
  for folder in ("checkpoints/5", "tensorboard/train", "notes"):
    (tmp_path / folder).mkdir(parents=True)
  for file in ("config.gin", "metrics.jsonl", "tensorboard/events", "plan.txt"):
    (tmp_path / file).write_text("")
  model_dir.check(epath_of)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="MODEL_DIR = .* cannot be written"):
    model_dir.check(tmp_path / "file" / "run")


def test_a_file_is_no_folder(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="is a file, and has to be a folder"):
    model_dir.check(tmp_path / "file")


def test_a_full_disk_is_no_mistake(tmp_path, no_room, monkeypatch):
  monkeypatch.setattr(model_dir, "NO_ROOM", (errno.EFBIG,))  # The error of this limit.
  with no_room(2048), pytest.raises(StorageError, match="MODEL_DIR = .* has no room"):
    model_dir.check(tmp_path)
  model_dir.check(tmp_path)
  assert not [*tmp_path.iterdir()]


def test_a_file_is_replaced_as_a_whole_or_not_at_all(epath_of, tmp_path, no_room):
  model_dir.write_text(epath_of, "config.gin", "old")
  with no_room(2048), pytest.raises(OSError, match="File too large"):
    model_dir.write_text(epath_of, "config.gin", "new" * 10_000)
  assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("config.gin", "old")]
  model_dir.write_text(epath_of, "config.gin", "new")
  assert (tmp_path / "config.gin").read_text() == "new"


def test_a_path_that_checkpoints_cannot_have(tmp_path):
  with pytest.raises(UserError, match="has a backslash in it"):
    model_dir.check(tmp_path / "a\\b")
  assert not [*tmp_path.iterdir()]


@pytest.fixture
def epath_of(tmp_path):
  from etils import epath

  return epath.Path(tmp_path)


@pytest.mark.parametrize("path", ["s3://bucket/run", "http://host/run", "file:///tmp/run", "gs://"])
def test_only_local_paths_and_google_buckets(path):
  with pytest.raises(UserError, match="neither a local path nor gs://BUCKET/FOLDER"):
    model_dir.check(path)
