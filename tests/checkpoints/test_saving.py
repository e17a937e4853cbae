"""Saves that fail: reported, counted, cleaned up, repeated; they end a run only after many."""

import contextlib
import shutil
import warnings

import numpy as np
import pytest
from etils import epath

from t5x_style.checkpoints import manager, reading, step_folders
from t5x_style.errors import StorageError, UserError

ARGUMENTS = {"identity": {}, "progress": {}}
TINY_FILES = 200  # bytes: folders and small files can be written, arrays cannot


@pytest.fixture
def no_pauses(monkeypatch):
  monkeypatch.setattr(manager, "_PAUSES", (0, 0))


def names(folder):
  return sorted(path.name for path in folder.iterdir())


def kernel(folder, step, state):
  """Returns the kernel of a saved step; `state` is any state."""
  path = epath.Path(folder) / str(step)
  return np.asarray(reading.read_state(path, reading.read_run(path), state).params["kernel"])


def test_a_full_disk_does_not_end_a_run(small_state, no_room, tmp_path, capfd):
  with manager.Checkpoints(tmp_path, keep=1, keep_best=0) as checkpoints:
    checkpoints.save(small_state(1), {"stream": b"1"}, **ARGUMENTS)
    checkpoints.wait()
    with no_room(TINY_FILES), pytest.warns(UserWarning) as warned:
      for step in (2, 3):
        checkpoints.save(small_state(step), {"stream": b"2"}, **ARGUMENTS)
        checkpoints.wait()
    assert names(tmp_path) == ["1"]  # The only good one, and nothing of the failures.
    assert (checkpoints.latest(), checkpoints.failed_saves) == (1, 2)
    # Coroutines of Orbax that failed may warn, too, when they are collected.
    texts = [str(one.message) for one in warned if one.category is UserWarning]
    assert "Step 2 is not saved" in texts[0] and "File too large" in texts[0]
    assert "checkpoint is of step 1" in texts[1] and "failure 2 of MAX_FAILED_SAVES = 5" in texts[1]
    checkpoints.save(small_state(4), {"stream": b"4"}, **ARGUMENTS)
    checkpoints.wait()
    assert names(tmp_path) == ["4"]
    np.testing.assert_array_equal(
      kernel(tmp_path, 4, small_state(0)), small_state(4).params["kernel"]
    )
    assert (tmp_path / "4/data/stream").read_bytes() == b"4"
  assert capfd.readouterr().err == ""  # Orbax prints tracebacks unless it is prevented.


def test_too_many_failures_in_a_row_end_a_run_at_once(small_state, no_room, tmp_path):
  checkpoints = manager.Checkpoints(tmp_path, max_failed_saves=2)
  with warnings.catch_warnings(record=True):
    with no_room(TINY_FILES):
      checkpoints.save(small_state(1), {}, **ARGUMENTS)
      checkpoints.wait()
    checkpoints.save(small_state(2), {}, **ARGUMENTS)  # The count begins again.
    checkpoints.wait()
    with no_room(TINY_FILES):
      checkpoints.save(small_state(3), {}, **ARGUMENTS)
      with pytest.raises(StorageError, match="2 saves in a row .* step 2"):
        checkpoints.save(small_state(4), {}, **ARGUMENTS)


def test_a_folder_that_cannot_be_made_and_one_that_is_removed(small_state, tmp_path):
  folder = tmp_path / "checkpoints"
  folder.write_text("a file")
  checkpoints = manager.Checkpoints(folder)
  with pytest.warns(UserWarning, match="there is no complete checkpoint"):
    checkpoints.save(small_state(1), {}, **ARGUMENTS)
  folder.unlink()
  for step in (2, 3):
    checkpoints.save(small_state(step), {}, **ARGUMENTS)
    checkpoints.wait()
    shutil.rmtree(folder)
  checkpoints.save(small_state(4), {}, **ARGUMENTS)
  checkpoints.wait()
  assert (checkpoints.steps(), checkpoints.failed_saves) == ([4], 1)


@pytest.mark.usefixtures("no_pauses")
def test_the_last_save_is_tried_again_and_must_succeed(small_state, no_room, tmp_path, monkeypatch):
  checkpoints = manager.Checkpoints(tmp_path, max_failed_saves=1)
  checkpoints.save(small_state(1), {}, **ARGUMENTS)
  checkpoints.wait()
  with no_room(TINY_FILES), pytest.warns(UserWarning, match="next attempt follows"):
    with pytest.raises(StorageError, match="after step 2, is not saved .* of step 1"):
      checkpoints.save(small_state(2), {}, **ARGUMENTS, last=True)
  assert checkpoints.failed_saves == 3
  with contextlib.ExitStack() as full, pytest.warns(UserWarning):
    full.enter_context(no_room(TINY_FILES))
    monkeypatch.setattr(
      manager.time, "sleep", lambda _: full.close()
    )  # Room after the first pause.
    checkpoints.save(small_state(2), {}, **ARGUMENTS, last=True)
  np.testing.assert_array_equal(
    kernel(tmp_path, 2, small_state(0)), small_state(2).params["kernel"]
  )


def test_the_best_by_another_metric_stays_and_is_found_by_its_name(small_state, tmp_path):
  folder = tmp_path / "checkpoints"
  with manager.Checkpoints(folder, keep=1, best_metric="accuracy") as checkpoints:
    for step, accuracy in ((1, 0.1), (2, 0.5), (3, 0.4), (4, 0.3)):
      values = {"loss": 1.0 / step, "accuracy": accuracy}
      checkpoints.save(small_state(step), {}, **ARGUMENTS, validation=values)
  assert names(folder) == ["2", "4"]
  for path in (tmp_path / "best", folder / "best"):
    assert step_folders.find_step(epath.Path(path)) == epath.Path(folder / "2")
  assert step_folders.find_step(epath.Path(tmp_path)) == epath.Path(folder / "4")
  (folder / "2").rename(tmp_path / "elsewhere")
  (folder / "4/run/metadata").write_text("{}")
  with pytest.raises(UserError, match="none of the steps 4 was evaluated"):
    step_folders.find_step(epath.Path(tmp_path / "best"))
  assert step_folders.find_step(epath.Path(tmp_path / "nothing/best")) is None


def test_the_best_checkpoint_is_known_after_a_restart(small_state, tmp_path):
  for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 5.0), (5, 4.0)):
    with manager.Checkpoints(tmp_path, keep=1, keep_best=1) as checkpoints:
      checkpoints.save(small_state(step), {}, **ARGUMENTS, validation={"loss": loss})
    if step == 3:
      (tmp_path / "3/run/metadata").write_text("{")  # It cannot be read, and prevents nothing.
  assert names(tmp_path) == ["2", "5"]
