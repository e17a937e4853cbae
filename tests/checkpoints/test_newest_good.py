"""A run resumes from the newest good checkpoint, whatever happened to newer ones."""

import json
import shutil
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

from t5x_style.checkpoints import manager, restoring
from t5x_style.errors import UserError
from t5x_style.training import setup
from tests import tiny
from tests.checkpoints.damages import DAMAGES, change_a_number

SETTINGS = {"train_steps": 6, "save_period": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run with checkpoints of steps 2, 4 and 6."""
  folder = tmp_path_factory.mktemp("run")
  tiny.train(tiny.config("decoder_only", folder, **SETTINGS))
  return folder


@pytest.fixture
def copy(run, tmp_path):
  return shutil.copytree(run, tmp_path / "copy")


def open_run(folder, **changes):
  """Opens the run in a folder; returns the job and the warnings about checkpoints."""
  prepared = setup.prepare(tiny.config("decoder_only", folder, **{**SETTINGS, **changes}))
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    job = restoring.open_run(prepared)
  job.checkpoints.close()
  return job, [str(x.message) for x in caught if "checkpoint" in str(x.message)]


def names(folder):
  return sorted(path.name for path in (folder / "checkpoints").iterdir())


def content(folder):
  return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same(state, other):
  jax.tree.map(np.testing.assert_array_equal, state, other)


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_set_aside_and_the_next_older_one_is_restored(name, copy):
  damage, reason = DAMAGES[name]
  newest = copy / "checkpoints" / "6"
  damage(newest)
  before = content(newest)
  job, (warning,) = open_run(copy)
  assert job.first_step == int(job.state.step) == 4
  assert warning.startswith("the checkpoint of step 6 is damaged: ") and reason in warning
  assert "checkpoints/damaged-6', and the run resumes from step 4." in warning
  assert names(copy) == ["2", "4", "damaged-6"]
  moved = {path.relative_to(newest): x for path, x in before.items()}
  aside = copy / "checkpoints" / "damaged-6"
  after = {path.relative_to(aside): x for path, x in content(aside).items()}
  assert reason in after.pop(Path("damage.txt")).decode()  # `launch.checkpoint list` shows it.
  assert after == moved


def test_all_that_are_damaged_are_set_aside_and_saved_again(copy, run):
  for step in ("4", "6"):
    change_a_number(copy / "checkpoints" / step)
  (copy / "checkpoints" / "damaged-6").mkdir()
  (copy / "checkpoints" / "damaged-6-2").mkdir()
  config = tiny.config("decoder_only", copy, **SETTINGS)
  with pytest.warns(UserWarning, match="step [46] is damaged"):
    result = tiny.train(config)
  assert result.first_step == 2
  assert names(copy) == ["2", "4", "6", "damaged-4", "damaged-6", "damaged-6-2", "damaged-6-3"]
  # The run ends as if nothing had happened, and so do its records.
  same(result.state.params, open_run(run)[0].state.params)
  assert tiny.records(copy) == tiny.records(run)


def test_if_none_is_good_all_reasons_are_listed_and_nothing_changes(copy):
  folder = copy / "checkpoints"
  shutil.rmtree(folder / "2" / "data")
  change_a_number(folder / "4")
  (folder / "6" / "run" / "metadata").write_text("")
  before = content(folder)
  with pytest.raises(UserError) as error:
    open_run(copy)
  first, six, four, two, advice = str(error.value).splitlines()
  assert first == f"All checkpoints in {str(folder)!r} are damaged, and nothing was changed there:"
  assert six.startswith("  6: run/metadata cannot be read (JSONDecodeError")
  assert four.startswith("  4: ") and "state/" in four
  assert two == "  2: data/ is missing"
  assert "move them away" in advice and "MODEL_DIR" in advice
  assert content(folder) == before


def test_an_older_damaged_checkpoint_does_not_prevent_the_start(copy):
  (copy / "checkpoints" / "4" / "run" / "metadata").write_text("{")
  shutil.rmtree(copy / "checkpoints" / "2" / "state")
  job, shown = open_run(copy)
  assert (job.first_step, shown) == (6, [])
  assert names(copy) == ["2", "4", "6"]


def test_an_empty_folder_of_a_later_step(copy):
  (copy / "checkpoints" / "9").mkdir()
  job, (warning,) = open_run(copy)
  assert job.first_step == 6 and "step 9 is damaged: its folder is empty" in warning
  assert names(copy) == ["2", "4", "6", "damaged-9"]


def test_another_run_sets_nothing_aside(copy):
  """Neither if all is well, nor if the newest checkpoint is damaged."""
  for change in ({"seed": 1}, {"model": {"mlp_dim": 128}}):
    with pytest.raises(UserError, match="another run"):
      open_run(copy, **change)
  change_a_number(copy / "checkpoints" / "6")
  with pytest.raises(UserError, match="another run"):
    open_run(copy, seed=1)
  assert names(copy) == ["2", "4", "6"]


def test_trouble_with_the_disk_sets_nothing_aside(copy):
  """Reading this file fails with EIO, an error that says nothing about what is stored."""
  file = copy / "checkpoints" / "6" / "run" / "metadata"
  file.unlink()
  file.symlink_to("/proc/self/mem")
  with pytest.raises(RuntimeError, match="6' cannot be read, and nothing .* Input/output error"):
    open_run(copy)
  assert names(copy) == ["2", "4", "6"]


def test_a_dry_run_changes_nothing(copy):
  change_a_number(copy / "checkpoints" / "6")
  before = content(copy)
  restoring.check_start(setup.prepare(tiny.config("decoder_only", copy, **SETTINGS)))
  assert content(copy) == before


def test_a_stored_state_that_is_not_finite_is_set_aside(tmp_path):
  config = tiny.config("decoder_only", tmp_path, **SETTINGS)
  prepared = setup.prepare(config)
  state = prepared.init(0)
  spoilt = jax.tree.map(lambda x: x * np.nan, state.params)
  with manager.Checkpoints(prepared.model_dir / "checkpoints") as saved:
    for step, params in ((1, state.params), (2, spoilt)):
      now = state.replace(step=state.step + step, params=params)
      saved.save(now, {"stream_00000": b"1"}, identity=prepared.identity(), progress={})
  job, (warning,) = open_run(tmp_path)
  assert job.first_step == 1
  assert "step 2 is damaged: it holds numbers that are not finite, in params/" in warning
  assert names(tmp_path) == ["1", "damaged-2"]


def without_digests(step):
  """Makes a checkpoint what earlier versions saved."""
  file = step / "run" / "metadata"
  run = json.loads(file.read_text())
  file.write_text(json.dumps({"identity": run["identity"], "progress": run["progress"]}))


def test_checkpoints_without_digests_are_accepted(copy):
  for step in (copy / "checkpoints").iterdir():
    without_digests(step)
  job, shown = open_run(copy)
  assert (job.first_step, shown) == (6, [])


@pytest.mark.parametrize(
  "name",
  [
    "an array file is cut in half",
    "the list of arrays is a list",
    "no place in the data",
    "a stream is cut",
    "the description is broken",
    "the state of another step",
  ],
)
def test_without_digests_what_cannot_be_read_is_found(name, copy):
  for step in (copy / "checkpoints").iterdir():
    without_digests(step)
  DAMAGES[name][0](copy / "checkpoints" / "6")
  job, (warning,) = open_run(copy)
  assert job.first_step == 4 and "step 6 is damaged" in warning


def test_nothing_is_compared_without_verify_checkpoints(copy):
  """VERIFY_CHECKPOINTS = False: arrays are neither compared, nor do they get digests."""
  change_a_number(copy / "checkpoints" / "6")
  job, shown = open_run(copy, verify_checkpoints=False)
  assert (job.first_step, shown) == (6, [])
  tiny.train(tiny.config("decoder_only", copy, **SETTINGS | {"train_steps": 8}))
  assert "digests" in json.loads((copy / "checkpoints/8/run/metadata").read_text())
  config = SETTINGS | {"train_steps": 10, "verify_checkpoints": False}
  tiny.train(tiny.config("decoder_only", copy, **config))
  assert "digests" not in json.loads((copy / "checkpoints/10/run/metadata").read_text())


def test_another_dtype_of_the_moments_is_no_damage(copy):
  """The digests are those of the stored numbers, which are converted afterwards."""
  prepared = setup.prepare(tiny.config("decoder_only", copy, **SETTINGS))
  half = jax.tree.map(
    lambda x: x.update(dtype="bfloat16") if x.ndim else x, prepared.abstract.opt_state
  )
  object.__setattr__(prepared, "abstract", prepared.abstract.replace(opt_state=half))
  job = restoring.open_run(prepared)
  job.checkpoints.close()
  whole = open_run(copy)[0].state.opt_state
  same(job.state.opt_state, jax.tree.map(lambda x, to: x.astype(to.dtype), whole, half))
