"""The mean of parameters, compared with NumPy's; a run starts from what is written."""

from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath

from t5x_style.checkpoints import array_pieces, averaging, reading
from t5x_style.errors import StorageError, UserError

DRAW = np.random.default_rng(0)


def parameters():
  return {
    "layers": {"kernel": DRAW.normal(size=(3, 40, 50)).astype(np.float32)},
    "scale": DRAW.normal(size=9).astype(ml_dtypes.bfloat16),
    "bias": np.float32(DRAW.normal()),
    "table": DRAW.integers(0, 1 << 60, size=4),
  }


@pytest.fixture
def save(tmp_path):
  """save(step, params) writes a checkpoint, with an optimizer's state that must not be read."""

  def write(step, params):
    tree = {"params": params, "opt_state": [{"mu": np.ones(3)}]}
    args = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=800), tree)
    ocp.PyTreeCheckpointer().save(tmp_path / str(step) / "state", tree, save_args=args)
    return epath.Path(tmp_path / str(step))

  return write


def write_mean(steps, target, read=lambda size: None):
  opened = averaging.open_parameters(steps)
  averaging.write_mean(steps, opened, target, read)


def test_the_mean_is_numpys_rounded_once(save, tmp_path, monkeypatch):
  monkeypatch.setattr(array_pieces, "PIECE_BYTES", 2000)  # Several pieces of several chunks.
  trees = [parameters() for _ in range(3)]
  steps = [save(step, tree) for step, tree in enumerate(trees)]
  sizes = []
  write_mean(steps, tmp_path / "mean", sizes.append)

  def mean(*leaves):
    wide = np.mean([np.asarray(leaf, np.float64) for leaf in leaves], axis=0)
    return np.asarray(wide, leaves[0].dtype)

  expected = jax.tree.map(mean, *trees) | {"table": trees[-1]["table"]}
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  del expected["table"]  # JAX has no int64 here.
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=here), expected
  )
  found = reading.read_params(epath.Path(tmp_path / "mean"), abstract)
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  (mean_again,) = averaging.open_parameters([epath.Path(tmp_path / "mean")])
  np.testing.assert_array_equal(mean_again["table"].read(), trees[-1]["table"])
  assert len(mean_again) == 4  # No optimizer's state.
  assert reading.find_damage(epath.Path(tmp_path / "mean")) is None
  floats = 3 * (4 * (3 * 40 * 50 + 1) + 2 * 9)
  assert sum(sizes) == floats + 4 * 8


def test_other_shapes_dtypes_and_names_are_refused_with_names(save, tmp_path):
  tree = parameters()
  other = tree | {"scale": np.ones(8, np.float32), "new": np.ones(2, np.float32)}
  del other["bias"]
  with pytest.raises(UserError) as error:
    averaging.open_parameters([save(1, other), save(2, tree), save(3, tree)])
  message = str(error.value)
  assert "step 1 has float32 (8,), step 3 bfloat16 (9,)" in message
  assert "  new: step 1 has float32 (2,), step 3 no such parameter" in message
  assert "  bias: step 1 has no such parameter" in message
  assert "layers/kernel" not in message and "step 2" not in message


def test_numbers_that_are_not_finite_are_refused(save, tmp_path):
  spoilt = parameters()
  spoilt["layers"]["kernel"][2, 3, 4] = np.nan
  steps = [save(1, parameters()), save(2, spoilt), save(3, parameters())]
  with pytest.raises(UserError, match="step 2: the parameter layers/kernel .* not finite"):
    write_mean(steps, tmp_path / "mean")


def test_a_damaged_step_is_named(save, tmp_path):
  steps = [save(1, parameters()), save(2, parameters())]
  for file in Path(steps[0]).rglob("d/*"):
    file.write_bytes(file.read_bytes()[:100])
  with pytest.raises(UserError, match="1/state' is not a whole|step 1: the parameter .* cannot be"):
    write_mean(steps, tmp_path / "mean")


def test_a_place_that_cannot_be_written_is_named(save):
  steps = [save(1, parameters()), save(2, parameters())]
  with pytest.raises(StorageError, match="The average cannot be stored: Not a directory."):
    write_mean(steps, Path("/dev/full/mean"))
