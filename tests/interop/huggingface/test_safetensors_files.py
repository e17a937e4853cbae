"""safetensors files against the library of that name, and messages about damaged ones."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from t5x_style.errors import UserError
from t5x_style.interop.huggingface import safetensors_files as files


@pytest.fixture
def arrays():
  draw = np.random.default_rng(0)
  return {
    "a.weight": draw.normal(size=(5, 7)).astype(np.float32),
    "b": draw.normal(size=(3,)).astype(ml_dtypes.bfloat16),
    "c": draw.integers(0, 9, (2, 2, 2)),
    "empty": np.zeros((0, 4), np.float16),
    "scalar": np.array(2.5, np.float32),
  }


def equal(tensor, array):
  found = tensor.map()
  assert found.dtype == array.dtype and found.shape == array.shape
  np.testing.assert_array_equal(found, array)


def test_reads_what_the_library_writes(tmp_path, arrays):
  save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "pt"})
  found = files.read_folder(tmp_path)
  assert found.keys() == arrays.keys()
  for name, array in arrays.items():
    equal(found[name], array)


@pytest.mark.parametrize(("limit", "count"), [(10**6, 1), (150, 2), (1, 5)])
def test_the_library_reads_what_is_written(tmp_path, arrays, limit, count):
  tensors = files.create_folder(tmp_path, {n: (x.shape, x.dtype) for n, x in arrays.items()}, limit)
  for name, array in arrays.items():
    if array.size:
      tensors[name].map(writable=True)[...] = array
  written = sorted(tmp_path.glob("*.safetensors"))
  assert len(written) == count
  found = {}
  for file in written:
    found |= load_file(file)
  for name, array in arrays.items():
    assert found[name].tobytes() == array.tobytes() and found[name].dtype == array.dtype
  for name, tensor in files.read_folder(tmp_path).items():
    equal(tensor, arrays[name])
    assert tensor.start % tensor.dtype.itemsize == 0
  if count > 1:
    index = json.loads((tmp_path / files.INDEX).read_text())
    assert index["weight_map"].keys() == arrays.keys()
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in arrays.values())


def cut(file):
  file.write_bytes(file.read_bytes()[:-1])


def lengthened(file):
  file.write_bytes(file.read_bytes() + b"\0")


def no_header(file):
  file.write_bytes(b"1234")


def long_header(file):
  file.write_bytes(struct.pack("<Q", 10**12) + file.read_bytes()[8:])


def other_header(file):
  content = bytearray(file.read_bytes())
  content[8] = ord("?")
  file.write_bytes(bytes(content))


def moved_tensor(file):
  content = file.read_bytes()
  (length,) = struct.unpack("<Q", content[:8])
  header = json.loads(content[8 : 8 + length])
  begin, end = header["a.weight"]["data_offsets"]
  header["a.weight"]["data_offsets"] = [begin + 1, end + 1]
  text = json.dumps(header).encode()
  file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


@pytest.mark.parametrize(
  "entry",
  [
    {"shape": [8.0], "dtype": "F32", "data_offsets": [0, 32]},
    {"shape": [-8], "dtype": "F32", "data_offsets": [0, 32]},
    {"shape": [8], "dtype": "F32", "data_offsets": ["0", "32"]},
    {"shape": [8], "dtype": "F32", "data_offsets": [0.0, 32.0]},
    {"shape": [8], "data_offsets": [0, 32]},
    [8, "F32", 0, 32],
  ],
)
def test_a_header_that_is_json_and_no_more(tmp_path, entry):
  text = json.dumps({"x": entry}).encode()
  (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(32))
  with pytest.raises(ValueError, match="says nothing sensible about 'x'"):
    files.read_folder(tmp_path)


@pytest.mark.parametrize(
  "damage", [cut, lengthened, no_header, long_header, other_header, moved_tensor]
)
def test_a_damaged_file_is_refused(tmp_path, arrays, damage):
  file = tmp_path / "model.safetensors"
  save_file(arrays, file)
  damage(file)
  with pytest.raises(ValueError, match="not a whole safetensors file.*Copy it again"):
    files.read_folder(tmp_path)


@pytest.mark.parametrize("shards_are_there", [True, False])
def test_a_single_file_takes_precedence_over_an_index(tmp_path, arrays, shards_are_there):
  """As in transformers: the index is what an earlier save has left."""
  files.create_folder(tmp_path, {n: (x.shape, x.dtype) for n, x in arrays.items()}, 150)
  if not shards_are_there:
    for shard in tmp_path.glob("model-*"):
      shard.unlink()
  save_file(arrays, tmp_path / files.SINGLE)
  found = files.read_folder(tmp_path)
  assert {tensor.file.name for tensor in found.values()} == {files.SINGLE}
  for name, array in arrays.items():
    equal(found[name], array)


def test_a_missing_shard_is_named(tmp_path, arrays):
  files.create_folder(tmp_path, {n: (x.shape, x.dtype) for n, x in arrays.items()}, 150)
  (tmp_path / "model-00002-of-00002.safetensors").unlink()
  with pytest.raises(UserError, match="lacks 1 of the 2 files.*model-00002-of-00002"):
    files.read_folder(tmp_path)


def test_an_index_that_promises_too_much(tmp_path, arrays):
  files.create_folder(tmp_path, {n: (x.shape, x.dtype) for n, x in arrays.items()}, 150)
  index = json.loads((tmp_path / files.INDEX).read_text())
  index["weight_map"]["never.saved"] = "model-00001-of-00002.safetensors"
  (tmp_path / files.INDEX).write_text(json.dumps(index))
  with pytest.raises(ValueError, match=r"1 tensors that are in none of its files: never.saved"):
    files.read_folder(tmp_path)


def test_folders_without_safetensors(tmp_path):
  with pytest.raises(UserError, match="does not exist"):
    files.read_folder(tmp_path / "nowhere")
  with pytest.raises(UserError, match="holds neither"):
    files.read_folder(tmp_path)
  (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
  with pytest.raises(UserError, match="only PyTorch can read.*save_pretrained"):
    files.read_folder(tmp_path)


def test_quantised_tensors_are_refused(tmp_path):
  header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
  (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"abcd")
  with pytest.raises(ValueError, match="'w'.*F8_E4M3.*Quantised"):
    files.read_folder(tmp_path)
