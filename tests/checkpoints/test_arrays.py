"""Arrays of a checkpoint are opened by name and read in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from t5x_style.checkpoints.arrays import LazyArray, check_path, orbax_arrays, tensorstore_url
from t5x_style.errors import UserError

KERNEL = np.arange(60, dtype=np.float32).reshape(3, 4, 5)


@pytest.fixture(params=[True, False], ids=["one store", "a folder each"])
def saved(request, tmp_path):
  tree = {"params": {"layers": {"kernel": jnp.asarray(KERNEL)}}, "step": 3}
  args = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=4 * 20), tree)
  handler = ocp.PyTreeCheckpointHandler(use_ocdbt=request.param)
  ocp.Checkpointer(handler).save(tmp_path / "state", tree, save_args=args)
  return tmp_path / "state"


def test_arrays_of_orbax_are_read_whole_by_layer_and_by_chunk(saved):
  arrays = orbax_arrays(saved, "params")
  assert arrays.keys() == {"layers/kernel"}
  array = arrays["layers/kernel"]
  assert (array.shape, array.dtype) == (KERNEL.shape, KERNEL.dtype)
  np.testing.assert_array_equal(array.read(), KERNEL)
  np.testing.assert_array_equal(array.layer(2).read(), KERNEL[2])
  np.testing.assert_array_equal(array.layer(1, axis=1).fetch((slice(2),)), KERNEL[:2, 1])
  np.testing.assert_array_equal(array.reshape((12, 5)).read(), KERNEL.reshape(12, 5))
  found = np.zeros_like(KERNEL)
  indices = list(array.chunks())
  assert len(indices) >= 3  # as chunk_byte_size says
  for index in indices:
    found[index] += array.fetch(index)
  np.testing.assert_array_equal(found, KERNEL)


def test_everything_that_was_saved_is_opened(tmp_path):
  tree = {"params": {"a": np.ones(3)}, "moments": [{"mu": np.arange(4)}, {"none": None}], "step": 7}
  ocp.PyTreeCheckpointer().save(tmp_path / "state", tree)
  arrays = orbax_arrays(tmp_path / "state", None)
  assert arrays.keys() == {"params/a", "moments/0/mu", "step"}
  np.testing.assert_array_equal(arrays["moments/0/mu"].read(), np.arange(4))
  step = arrays["step"]
  assert (step.shape, step.read(), [*step.chunks()], [*step.groups()]) == ((), 7, [()], [()])


def test_an_array_in_memory_has_the_same_interface():
  array = LazyArray.in_memory(KERNEL)
  np.testing.assert_array_equal(array.layer(1).read(), KERNEL[1])
  assert [KERNEL[index].shape for index in array.chunks()] == [KERNEL.shape]


@pytest.mark.parametrize("damage", ["no metadata", "no such tree", "no array"])
def test_damage_is_named_with_the_setting(saved, damage):
  if damage == "no metadata":
    (saved / "_METADATA").unlink()
  elif damage == "no array":
    for file in [x for x in saved.rglob("*") if x.is_file() and x.name != "_METADATA"]:
      file.unlink()
  key = "target" if damage == "no such tree" else "params"
  with pytest.raises(UserError, match="^--from: '.*state' is not a whole checkpoint of Orbax"):
    orbax_arrays(saved, key, setting="--from")


def test_paths_that_tensorstore_cannot_use():
  with pytest.raises(UserError, match="neither a local path nor gs://BUCKET/FOLDER"):
    check_path("s3://bucket/folder")
  with pytest.raises(UserError, match="backslash"):
    tensorstore_url("/a\\b")
  assert tensorstore_url("/a b%") == "file:///a%20b%25/"
  assert tensorstore_url("gs://bucket/a b") == "gs://bucket/a%20b/"
