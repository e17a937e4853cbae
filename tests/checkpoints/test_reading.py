"""Reading a checkpoint: either all is what was saved, or the damage is found."""

import json
import random
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from t5x_style.checkpoints import manager, reading
from t5x_style.checkpoints.damage import DamagedError
from t5x_style.training import setup
from tests import tiny
from tests.checkpoints.damages import DAMAGES, flip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """A run with checkpoints of steps 2 and 4."""
  folder = tmp_path_factory.mktemp("run")
  config = tiny.config("decoder_only", folder, train_steps=4, save_period=2)
  tiny.train(config)
  return setup.prepare(config)


def content(folder, prepared):
  """All of a checkpoint, verified: the run, the streams, and the bytes of the state."""
  run = reading.read_run(folder)
  state = reading.read_state(folder, run, prepared.abstract)
  reading.check_state(run, state)
  arrays = jax.tree.map(lambda x: np.asarray(x).tobytes(), state)
  return run, reading.read_streams(folder, run), arrays


def flips(step, number, seed):
  """Flips one bit after the other, in all files of a step; yields the file while it is so."""
  rng = random.Random(seed)
  files = sorted(path for path in Path(step).rglob("*") if path.is_file() and path.stat().st_size)
  for i in range(number):
    file = files[i % len(files)]
    before = flip(file, rng.randrange(file.stat().st_size), rng.randrange(8))
    yield file
    file.write_bytes(before)


def check_flips(prepared, number, seed):
  step = epath.Path(prepared.model_dir / "checkpoints" / "4")
  saved = content(step, prepared)
  found = dict.fromkeys(("damaged", "as it was saved"), 0)
  for file in flips(step, number, seed):
    try:
      now = content(step, prepared)
    except DamagedError:
      found["damaged"] += 1
    else:
      assert now == saved, file
      found["as it was saved"] += 1
  assert content(step, prepared) == saved
  assert min(found.values()) > number / 5
  return found


def test_a_flipped_bit_is_found_or_changes_nothing_that_is_read(prepared):
  check_flips(prepared, 60, seed=0)


@pytest.mark.slow
def test_many_flipped_bits(prepared):
  """In array files, manifests, JSON and markers alike."""
  check_flips(prepared, 600, seed=1)


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_on_the_host(name, prepared, tmp_path):
  """Without devices, as launch.checkpoint verifies."""
  steps = tmp_path / "checkpoints"
  shutil.copytree(prepared.model_dir / "checkpoints", steps)
  step = epath.Path(steps / "4")
  assert reading.find_damage(step) is None
  DAMAGES[name][0](steps / "4")
  assert reading.find_damage(step) is not None


def test_numbers_that_are_not_finite_are_found_on_the_host(prepared, tmp_path):
  state = prepared.init(0)
  params = jax.tree.map(lambda x: x.at[..., 0].set(np.inf), state.params)
  with manager.Checkpoints(tmp_path) as saved:
    saved.save(state.replace(params=params), {"s": b""}, identity={}, progress={})
  assert "not finite, in params/" in reading.find_damage(epath.Path(tmp_path / "0"))


def test_a_checkpoint_of_another_program_has_only_arrays(prepared, tmp_path):
  step = tmp_path / "mean"
  shutil.copytree(prepared.model_dir / "checkpoints" / "4" / "state", step / "state")
  assert reading.find_damage(epath.Path(step)) is None
  metadata = step / "state" / "array_metadatas" / "process_0"
  listed = json.loads(metadata.read_text())
  del listed["array_metadatas"][3]
  metadata.write_text(json.dumps(listed))
  assert "array_metadatas" in reading.find_damage(epath.Path(step))
