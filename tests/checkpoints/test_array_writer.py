"""Orbax itself restores a checkpoint that was written piece by piece."""

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath

from t5x_style.checkpoints import reading, step_folders
from t5x_style.checkpoints.array_pieces import pieces
from t5x_style.checkpoints.array_writer import ArrayWriter
from t5x_style.errors import UserError

DRAW = np.random.default_rng(0)
TREE = {
  "head": {"bias": DRAW.normal(size=7).astype(ml_dtypes.bfloat16)},
  "layers": {"mlp": {"kernel": DRAW.normal(size=(3, 5, 4)).astype(np.float32)}},
  "zeros": np.zeros((2, 3), np.float32),  # also what is read of a piece that was never written
}


@pytest.fixture
def step(tmp_path):
  writer = ArrayWriter(tmp_path / "5")
  for path, array in jax.tree_util.tree_leaves_with_path(TREE):
    chunk = (1,) * (array.ndim - 1) + (3,)
    new = writer.create(("params", *(key.key for key in path)), array.shape, chunk, array.dtype)
    for index in pieces(array.shape, chunk):
      new[index] = array[index]
  writer.close()
  return epath.Path(tmp_path / "5")


def assert_same(found):
  jax.tree.map(np.testing.assert_array_equal, found, TREE)
  assert jax.tree.map(lambda x: x.dtype, found) == jax.tree.map(lambda x: x.dtype, TREE)


def test_a_copy_in_a_bucket_is_complete(step, monkeypatch):
  monkeypatch.setattr(step_folders, "renames", lambda path: False)
  assert step_folders.find_step(step) == step
  (step / step_folders.COMMIT_MARKER).unlink()
  with pytest.raises(UserError, match="whose save was interrupted"):
    step_folders.find_step(step)


def test_the_manager_restores_it(step):
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), TREE)
  assert_same(reading.read_params(step, abstract))


def test_orbax_restores_it_as_numpy_arrays(step):
  args = {"params": jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), TREE)}
  assert_same(ocp.PyTreeCheckpointer().restore(step / "state", restore_args=args)["params"])
