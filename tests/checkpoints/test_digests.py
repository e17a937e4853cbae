"""The digest of an array is what its definition says, wherever and however the array is stored."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from t5x_style.checkpoints.arrays import LazyArray, orbax_arrays
from t5x_style.checkpoints.digests import digest_of, digests
from tests import tiny

DTYPES = ("float32", "bfloat16", "float16", "int32", "uint32", "int8", "float8_e4m3fn", "bool")
SHAPES = ((), (7,), (3, 5), (2, 3, 4, 5))


def numbers(shape, dtype, seed=0):
  values = np.random.default_rng(seed).normal(0, 10, shape)
  return np.asarray(values).astype(jnp.dtype(dtype))


def mixed(x):
  """MurmurHash3's fmix32, on Python's integers."""
  x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
  x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
  return x ^ (x >> 16)


def defined(array):
  """The digest by its definition, one number after the other."""
  bits = array.reshape(-1).view(f"uint{array.itemsize * 8}").tolist()
  columns = array.shape[-1] if array.ndim else 1
  sums = []
  for seed in (0x9E3779B9, 0x7F4A7C15):
    terms = (
      mixed(x ^ mixed((mixed((i // columns + seed) % 2**32) + i % columns) % 2**32))
      for i, x in enumerate(bits)
    )
    sums.append(sum(terms) % 2**32)
  return f"{sums[0]:08x}{sums[1]:08x}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_devices_and_host_compute_what_is_defined(dtype):
  for shape in SHAPES:
    array = numbers(shape, dtype)
    assert digests({"x": jnp.asarray(array)}) == {"x": defined(array)}
    halves = tuple(-(-size // 2) for size in shape)
    for chunk in (None, halves, (1,) * len(shape)):
      assert digest_of(LazyArray(shape, array.dtype, array.__getitem__, chunk)) == defined(array)


def test_the_definition_does_not_change():
  """Otherwise every checkpoint that exists would look damaged."""
  ramp = np.arange(12, dtype=np.float32).reshape(3, 4)
  assert digest_of(LazyArray.in_memory(ramp)) == "6912d9586435b8f5"


def test_arrays_of_many_blocks():
  """NumPy mixes blocks of them, of long rows and of short ones."""
  for shape in ((3, 200_001), (70_001, 7)):
    array = numbers(shape, "float32")
    assert digests({"x": jnp.asarray(array)}) == {"x": digest_of(LazyArray.in_memory(array))}


def test_any_change_of_one_number_changes_both_halves():
  array = numbers((40, 50), "float32")
  before = digest_of(LazyArray.in_memory(array))
  rng = np.random.default_rng(1)
  for _ in range(300):
    changed = array.copy()
    place = rng.integers(array.size)
    changed.view(np.uint32).reshape(-1)[place] ^= np.uint32(1 << rng.integers(32))
    after = digest_of(LazyArray.in_memory(changed))
    assert after[:8] != before[:8] and after[8:] != before[8:]


@pytest.mark.parametrize(
  "change",
  [
    lambda x: x[::-1],
    lambda x: x[:, ::-1],
    lambda x: np.roll(x, 1),
    lambda x: np.where(np.arange(50) < 10, 0, x),
    lambda x: x.reshape(50, 40),
    lambda x: x + 0.0,  # -0.0 becomes 0.0.
  ],
)
def test_moved_lost_and_equal_numbers_of_other_bits_change_it(change):
  array = numbers((40, 50), "float32")
  array[3, 3] = -0.0
  changed = np.ascontiguousarray(change(array).astype(np.float32))
  assert digest_of(LazyArray.in_memory(changed)) != digest_of(LazyArray.in_memory(array))


def test_a_stored_state_has_the_digests_of_the_state(tiny_config, tmp_path):
  """All its arrays, under the same names."""
  result = tiny.train(tiny_config("encoder_decoder", tmp_path, train_steps=1))
  stored = orbax_arrays(tmp_path / "checkpoints" / "1" / "state", None)
  parts = ("step", "params", "opt_state", "rng")
  expected = digests({part: getattr(result.state, part) for part in parts})
  assert {name: digest_of(array) for name, array in stored.items()} == expected


def test_every_mesh_has_the_same_digest(on_eight_devices):
  (line,) = on_eight_devices(__file__)
  expected = digests({"x": jnp.asarray(numbers((8, 16, 4), "bfloat16"))})
  found = json.loads(line)
  assert len(found) == len(SPECS) and all(x == expected for x in found)


SPECS = [(), ("a",), (None, "b"), ("b", ("a", "c")), (("c", "a", "b"), None), ("a", "b", "c")]


def main():
  mesh = jax.make_mesh((2, 2, 2), ("a", "b", "c"))
  array = numbers((8, 16, 4), "bfloat16")
  shardings = [NamedSharding(mesh, PartitionSpec(*spec)) for spec in SPECS]
  print(json.dumps([digests({"x": jax.device_put(array, x)}) for x in shardings]))


if __name__ == "__main__":
  main()
