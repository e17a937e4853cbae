"""What launch.checkpoint prints and writes about the checkpoints of a real run."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from launch import checkpoint
from launch.process.errors import ConfigurationError
from t5x_style.checkpoints import restoring
from t5x_style.checkpoints.arrays import orbax_arrays
from t5x_style.training import setup
from tests import tiny
from tests.checkpoints import damages

STEPS = (4, 6, 8)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
  """A MODEL_DIR with three checkpoints, of which the first and the last were evaluated."""
  folder = tmp_path_factory.mktemp("run")
  tiny.train(tiny.config("decoder_only", folder, train_steps=8, save_period=2, eval_period=4))
  return folder


@pytest.fixture
def copy(finished_run, tmp_path):
  """A copy of the run that a test may change."""
  return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture
def run(capsys):
  """run("list", folder) returns the exit code and what is printed, parsed if it is JSON.

  run.warned is what it printed to the standard error.
  """

  def start(*arguments):
    code = checkpoint.main(["launch.checkpoint", *map(str, arguments)])
    printed, start.warned = capsys.readouterr()
    return code, json.loads(printed) if "--json" in arguments else printed

  return start


def parameters(folder, step):
  arrays = orbax_arrays(folder / "checkpoints" / str(step) / "state", "params")
  return {name: array.read() for name, array in arrays.items()}


def test_list(copy, run):
  (copy / "checkpoints/damaged-2").mkdir()
  (copy / "checkpoints/10.orbax-checkpoint-tmp").mkdir()
  code, shown = run("list", copy)
  assert code == 0
  rows = {line.split()[0]: line for line in shown.splitlines()[2:] if line}
  assert list(rows) == ["step", "damaged-2", "4", "6", "8", "10"]
  records = map(json.loads, (copy / "metrics.jsonl").read_text().splitlines())
  losses = {x["step"]: x["loss"] for x in records if x["split"] == "validation"}
  assert f"{losses[4]:.4f}" in rows["4"] and f"{losses[8]:.4f}" in rows["8"]
  best = min(losses, key=losses.get)
  assert [name for name in rows if "best" in rows[name]] == [str(best)]
  assert [name for name in rows if "newest" in rows[name]] == ["8"]
  assert "unfinished" in rows["10"] and " kB" in rows["6"]


def test_list_says_why_a_checkpoint_was_set_aside(copy, run):
  damages.change_a_number(copy / "checkpoints/8")
  config = tiny.config("decoder_only", copy, train_steps=8, save_period=2, eval_period=4)
  with pytest.warns(UserWarning, match="step 8 is damaged"):
    restoring.open_run(setup.prepare(config)).checkpoints.close()
  _, shown = run("list", copy)
  (row,) = [line for line in shown.splitlines() if "damaged-8" in line]
  assert "1 of 37 arrays in state/ are not what was saved: params/token_embed/embedding" in row
  assert run("verify", copy) == (0, f"{copy / 'checkpoints'}\n\n  4  good\n  6  good\n")


def test_list_as_json(finished_run, run):
  code, found = run("list", finished_run, "--json")
  assert code == 0 and found["folder"] == str(finished_run / "checkpoints")
  assert [x["step"] for x in found["checkpoints"]] == list(STEPS)
  folder = finished_run / "checkpoints/6"
  size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
  six = found["checkpoints"][1]
  assert (six["bytes"], six["kind"], six["validation_loss"]) == (size, "complete", None)
  assert run("list", folder, "--json")[1]["checkpoints"] == [six | {"marks": []}]


def test_diff_of_two_steps(finished_run, run):
  code, found = run("diff", finished_run, "--step=6", "--step=8", "--json")
  assert code == 1 and not found["equal"]
  before, after = parameters(finished_run, 6), parameters(finished_run, 8)
  assert {x["name"] for x in found["arrays"]} == before.keys()
  by_name = {x["name"]: x for x in found["arrays"]}
  for name, a in before.items():
    x, y = a.astype(np.float64), after[name].astype(np.float64)
    assert by_name[name]["max_difference"] == np.abs(x - y).max()
    relative = np.linalg.norm(x - y) / np.linalg.norm(x)
    np.testing.assert_allclose(by_name[name]["relative_norm"], relative, rtol=1e-12)
  order = [x["relative_norm"] for x in found["arrays"]]
  assert order == sorted(order, reverse=True)
  code, shown = run("diff", finished_run, "--step=6,8")
  assert code == 1 and f"{len(before)} of {len(before)} parameters differ" in shown
  assert "all of params: 23,712 numbers" in shown


def test_diff_of_equal_parameters_and_of_everything(finished_run, copy, run):
  code, shown = run("diff", finished_run, copy)
  assert code == 0 and "All 11 parameters are equal to the bit." in shown
  code, found = run("diff", finished_run, copy / "checkpoints/6", "--all", "--json")
  assert code == 1 and set(found["totals"]) == {"params", "opt_state"}
  by_name = {x["name"]: x for x in found["arrays"]}
  assert by_name["step"]["max_difference"] == 2 and by_name["rng"]["equal"]
  assert "opt_state/0/mu/token_embed/embedding" in by_name
  assert run("diff", finished_run, copy, "--step=4")[0] == 0
  assert run("diff", finished_run, copy, "--step=4", "--step=6")[0] == 1


def test_diff_says_what_is_only_in_one_and_shortens_long_tables(finished_run, tmp_path, run):
  # Unrolled layers, of another number and width.
  leaves = {f"layers_{i}": {"mlp": {"wo": np.ones((64, 16), np.float32)}} for i in range(30)}
  params = {"decoder": leaves, "token_embed": {"embedding": np.ones((96, 16), np.float32)}}
  ocp.PyTreeCheckpointer().save(tmp_path / "other/state", {"params": params})
  other = tmp_path / "other"
  code, shown = run("diff", finished_run, other)
  assert code == 1
  assert "decoder/layers/mlp/wo/kernel  only in a: float32 2x64x32" in shown
  assert "... and 21 more; --all shows them" in shown and "token_embed" not in shown
  assert "token_embed/embedding  float32 96x32 in a, float32 96x16 in b" in (
    run("diff", finished_run, other, "--all")[1].replace("params/", "")
  )


def test_average_is_the_mean_and_a_run_starts_from_it(finished_run, tmp_path, run):
  target = tmp_path / "new/average"
  (code, shown) = run("average", finished_run, "--last=3", f"--to={target}")
  assert code == 0 and "3 steps (4, 6, 8): 23,712 numbers in 11 parameters, float32" in shown
  assert str(target) in shown and "INITIAL_CHECKPOINT_PATH" in shown
  trees = [parameters(finished_run, step) for step in STEPS]
  config = tiny.config("decoder_only", tmp_path / "next", initial_checkpoint_path=str(target))
  job = restoring.open_run(setup.prepare(config))
  job.checkpoints.close()
  found = {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(job.state.params)
  }
  assert found.keys() == trees[0].keys()
  for name, leaf in found.items():
    mean = np.mean([tree[name].astype(np.float64) for tree in trees], axis=0)
    np.testing.assert_array_equal(leaf, mean.astype(np.float32))
  assert int(job.state.step) == 0
  assert {path.name for path in target.iterdir()} == {"commit_success.txt", "run", "state"}
  assert run("verify", target)[0] == 0
  (listed,) = run("list", target, "--json")[1]["checkpoints"]
  assert listed["digests"] and "average of 3 steps" in listed["note"]
  assert all(str(finished_run / f"checkpoints/{step}") in listed["note"] for step in STEPS)


def test_average_keeps_the_runs_configuration_and_takes_named_steps(copy, tmp_path, run):
  (copy / "config.gin").write_text("# what the model is")
  run("average", copy, "--step=8,4", f"--to={tmp_path / 'average'}")
  assert (tmp_path / "average/config.gin").read_text() == "# what the model is"
  found = orbax_arrays(tmp_path / "average/state", "params")
  four, eight = parameters(copy, 4), parameters(copy, 8)
  for name, array in found.items():
    mean = (four[name].astype(np.float64) + eight[name]) / 2
    np.testing.assert_array_equal(array.read(), mean.astype(np.float32))


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--last=2"], "give --to=NEW_FOLDER"),
    (["--to=new"], "either --last=N"),
    (["--last=2", "--step=4,6", "--to=new"], "either --last=N"),
    (["--last=4", "--to=new"], "--last=4: .* holds 3 good steps \\(4, 6, 8\\)"),
    (["--last=1", "--to=new"], "--last=1: a mean is of two steps or more"),
    (["--last=-1", "--to=new"], "a mean is of two steps or more"),
    (["--step=4", "--to=new"], "a mean is of two steps or more"),
    (["--step=4,5", "--to=new"], "--step=5: .* no complete checkpoint of this step; .* 4, 6, 8"),
    (["--last=2", "--to=gs://bucket/new"], "to a local folder"),
    (["--last=2", "--to=~no_such_user/x"], "--to=~no_such_user/x: "),
    (["--last=2", "--to=run"], "--to run exists and is not empty"),
    (["--last=2", "--to=run/checkpoints/9"], "among the checkpoints of a run"),
  ],
)
def test_mistakes_of_average_write_nothing(arguments, message, copy, run, monkeypatch):
  monkeypatch.chdir(copy.parent)
  before = sorted(copy.rglob("*"))
  with pytest.raises(ConfigurationError, match=message):
    run("average", "run", *arguments)
  assert sorted(copy.rglob("*")) == before and not Path("new").exists()


def test_average_leaves_out_a_damaged_step_unless_it_is_named(copy, run, tmp_path):
  damages.change_a_number(copy / "checkpoints/6")
  target = tmp_path / "new"
  code, shown = run("average", copy, "--last=2", f"--to={target}")
  assert code == 0 and "2 steps (4, 8)" in shown
  assert "warning: step 6 is damaged, and left out: " in run.warned
  assert "params/token_embed/embedding" in run.warned
  for arguments, message in (
    (["--last=3"], "holds 2 good steps \\(4, 8\\)"),
    (["--step=6,8"], "--step=6: this step is damaged: .*token_embed"),
  ):
    with pytest.raises(ConfigurationError, match=message):
      run("average", copy, *arguments, f"--to={tmp_path / 'other'}")
  assert not (tmp_path / "other").exists()


def test_steps_without_digests_have_to_be_readable(copy, run, tmp_path):
  for step in STEPS:
    _remove_digests(copy / "checkpoints" / str(step))
  damages.cut_every_array(copy / "checkpoints/6")
  _, shown = run("average", copy, "--last=2", f"--to={tmp_path / 'new'}")
  assert "2 steps (4, 8)" in shown and "warning: step 6 is damaged" in run.warned
  with pytest.raises(ConfigurationError, match="checkpoints/6.*(cannot be read|is not a whole)"):
    run("diff", copy, "--step=6,8")


def _remove_digests(step):
  """Makes a checkpoint one of an earlier version."""
  run = json.loads((step / "run/metadata").read_text())
  del run["digests"]
  (step / "run/metadata").write_text(json.dumps(run))


def test_verify(copy, run):
  code, shown = run("verify", copy)
  assert code == 0
  assert shown.splitlines()[2:] == [f"  {step}  good" for step in STEPS]
  before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
  damages.change_a_number(copy / "checkpoints/6")
  _remove_digests(copy / "checkpoints/4")
  changed = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
  assert changed != before
  code, found = run("verify", copy, "--json")
  assert code == 1
  assert [(x["name"], x["good"], x["digests"]) for x in found["checkpoints"]] == [
    ("4", True, False),
    ("6", False, True),
    ("8", True, True),
  ]
  code, shown = run("verify", copy)
  assert code == 1
  lines = shown.splitlines()[2:]
  assert "good; it was saved without digests" in lines[0] and lines[2] == "  8  good"
  assert "damaged: 1 of 37 arrays in state/ are not what was saved: params/token_emb" in lines[1]
  assert run("verify", copy, "--step=8")[0] == 0
  assert run("verify", copy / "checkpoints/6")[0] == 1
  assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == changed


def test_verify_finds_an_array_that_is_no_longer_listed(copy, run):
  file = copy / "checkpoints/8/state/_METADATA"
  content = json.loads(file.read_text())
  del content["tree_metadata"]["('params', 'token_embed', 'embedding')"]
  file.write_text(json.dumps(content))
  code, shown = run("verify", copy, "--step=8")
  assert code == 1
  assert "does not list 1 of its arrays: params/token_embed/embedding" in shown


@pytest.mark.parametrize("name", damages.DAMAGES)
def test_verify_finds_every_damage(name, copy, run):
  (copy / "checkpoints/4").rename(copy / "checkpoints/2")  # from which damages take parts
  damage, _ = damages.DAMAGES[name]
  damage(copy / "checkpoints/8")
  code, found = run("verify", copy, "--step=8", "--json")
  (eight,) = found["checkpoints"]
  assert code == 1 and not eight["good"] and eight["reason"]


def test_one_checkpoint_takes_no_step(finished_run, run):
  with pytest.raises(ConfigurationError, match="one checkpoint already: leave out --step"):
    run("diff", finished_run / "checkpoints/4", finished_run, "--step=4")
