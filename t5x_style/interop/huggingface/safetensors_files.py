"""safetensors files, read and written through memory maps: no tensor is ever held as a whole.

A file is 8 bytes (the length of the header, little-endian), a header in JSON that gives the dtype,
shape and place of each tensor, and the tensors' bytes one after the other (the section "Format" of
github.com/huggingface/safetensors). A folder holds one such file, or several and an index.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from t5x_style.errors import UserError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

DTYPES: dict[str, np.dtype] = {
  "F64": np.dtype(np.float64),
  "F32": np.dtype(np.float32),
  "F16": np.dtype(np.float16),
  "BF16": np.dtype(ml_dtypes.bfloat16),
  "I64": np.dtype(np.int64),
  "I32": np.dtype(np.int32),
  "I16": np.dtype(np.int16),
  "I8": np.dtype(np.int8),
  "U8": np.dtype(np.uint8),
  "BOOL": np.dtype(np.bool_),
}
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_ALIGNMENT = 8  # bytes; the header is filled up with spaces


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One tensor of a file; `map` gives its content."""

  file: Path
  start: int  # bytes from the beginning of the file
  shape: tuple[int, ...]
  dtype: np.dtype

  @property
  def nbytes(self) -> int:
    return math.prod(self.shape) * self.dtype.itemsize

  def map(self, writable: bool = False) -> np.ndarray:
    """The tensor as an array over the file: what is not touched is not read."""
    if not self.nbytes:
      return np.zeros(self.shape, self.dtype)
    mode: Any = "r+" if writable else "r"
    return np.memmap(self.file, self.dtype, mode, self.start, self.shape)


def read_folder(folder: str | Path) -> dict[str, Tensor]:
  """{name: Tensor} of the model that a Hugging Face folder holds.

  As in transformers, a single file takes precedence over an index, which may be an older one.

  Raises:
    UserError: there is no such folder, or there are no safetensors, or a file is missing, or a file
      is damaged, or does not hold what the index says.
  """
  folder = Path(os.path.expanduser(folder))
  if not folder.is_dir():
    what = "is a file" if folder.exists() else "does not exist"
    raise UserError(f"{str(folder)!r} {what}; give the folder that holds config.json and {SINGLE}.")
  if (folder / SINGLE).is_file():
    return read_header(folder / SINGLE)
  if (folder / INDEX).is_file():
    return _read_shards(folder)
  others = sorted(path.name for path in folder.glob("*.bin")) + sorted(
    path.name for path in folder.glob("*.safetensors")
  )
  if any(name.startswith("pytorch_model") for name in others):
    raise UserError(
      f"{str(folder)!r} holds {others[0]}, which only PyTorch can read, and no {SINGLE}. Write it "
      "anew where PyTorch and transformers are installed: AutoModelForMaskedLM (or another class "
      'that config.json names under "architectures").from_pretrained(FOLDER).save_pretrained('
      "NEW_FOLDER)."
    )
  raise UserError(
    f"{str(folder)!r} holds neither {SINGLE} nor {INDEX}"
    + (f", only {', '.join(others[:4])}." if others else ".")
  )


def read_header(file: Path) -> dict[str, Tensor]:
  """{name: Tensor} of one file.

  Raises:
    UserError: it is not a safetensors file, or is cut short, or is otherwise damaged.
  """

  def damaged(reason: str) -> UserError:
    return UserError(f"{str(file)!r} is not a whole safetensors file: {reason}. Copy it again.")

  size = file.stat().st_size
  with file.open("rb") as opened:
    start = opened.read(8)
    if len(start) < 8:
      raise damaged(f"it has {size} bytes")
    (length,) = struct.unpack("<Q", start)
    if start == b"version ":
      raise UserError(
        f"{str(file)!r} is only a pointer of Git LFS to the file; `git lfs pull` fetches it."
      )
    if length > size - 8:
      raise damaged(f"its header should be {length:,} bytes long, the file has {size:,}")
    try:
      header = json.loads(opened.read(length))
      if not isinstance(header, dict):
        raise ValueError
    except (ValueError, RecursionError):
      raise damaged("its header is not JSON") from None
  header.pop("__metadata__", None)
  found, places = {}, []
  for name, entry in header.items():
    try:
      shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
      code = entry["dtype"]
      if not all(type(x) is int and x >= 0 for x in (*shape, begin, end)):
        raise ValueError
    except (KeyError, TypeError, ValueError):
      raise damaged(f"its header says nothing sensible about {name!r}") from None
    if str(code) not in DTYPES:
      raise UserError(
        f"{name!r} in {str(file)!r} is of dtype {code}; known are {', '.join(DTYPES)}. Quantised "
        "models cannot be converted."
      )
    found[name] = Tensor(file, 8 + length + begin, shape, DTYPES[code])
    if end - begin != found[name].nbytes:
      raise damaged(f"{name!r} {list(shape)} takes {end - begin:,} bytes")
    places.append((begin, end))
  # The tensors lie one after the other, to the very end of the file.
  reached = 0
  for begin, end in sorted(places):
    if begin != reached:
      raise damaged(f"its tensors overlap or leave a gap at byte {reached:,}")
    reached = end
  if 8 + length + reached != size:
    raise damaged(f"it should have {8 + length + reached:,} bytes and has {size:,}")
  return found


def _read_shards(folder: Path) -> dict[str, Tensor]:
  index = folder / INDEX
  try:
    where = json.loads(index.read_text())["weight_map"]
    files = sorted(set(where.values()))
    if not all(isinstance(name, str) for name in files):
      raise TypeError
  except (ValueError, KeyError, TypeError, AttributeError):
    raise UserError(f"{str(index)!r} is not a JSON file with a weight_map.") from None
  missing = [name for name in files if not (folder / name).is_file()]
  if missing:
    raise UserError(
      f"{str(folder)!r} lacks {len(missing)} of the {len(files)} files that {INDEX} names: "
      f"{', '.join(missing[:12])}{', ...' if len(missing) > 12 else ''}."
    )
  found: dict[str, Tensor] = {}
  for file in files:
    found |= read_header(folder / file)
  absent = sorted(name for name in where if name not in found)
  if absent:
    raise UserError(
      f"{INDEX} of {str(folder)!r} names {len(absent)} tensors that are in none of its files: "
      f"{', '.join(absent[:12])}{', ...' if len(absent) > 12 else ''}."
    )
  return found


def create_folder(
  folder: Path, tensors: Mapping[str, tuple[tuple[int, ...], np.dtype]], max_shard_size: int
) -> dict[str, Tensor]:
  """Makes the files of a model, their tensors still zero, to be filled through `Tensor.map`.

  Args:
    tensors: {name: (shape, dtype)}, in the order in which they are laid down.
    max_shard_size: bytes; a file holds no more, unless a single tensor is larger.
  """
  sizes = {name: math.prod(shape) * dtype.itemsize for name, (shape, dtype) in tensors.items()}
  shards = _shards(sizes, max_shard_size)
  if len(shards) == 1:
    names = [SINGLE]
  else:
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    index = {
      "metadata": {"total_size": sum(sizes.values())},
      "weight_map": {
        name: file for file, shard in zip(names, shards, strict=True) for name in shard
      },
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
  found: dict[str, Tensor] = {}
  for file, shard in zip(names, shards, strict=True):
    found |= create_file(folder / file, {name: tensors[name] for name in shard})
  return found


def _shards(sizes: Mapping[str, int], max_shard_size: int) -> list[list[str]]:
  shards: list[list[str]] = [[]]
  filled = 0
  for name, size in sizes.items():
    if shards[-1] and filled + size > max_shard_size:
      shards.append([])
      filled = 0
    shards[-1].append(name)
    filled += size
  return shards


def create_file(
  file: Path, tensors: Mapping[str, tuple[tuple[int, ...], np.dtype]]
) -> dict[str, Tensor]:
  """One file of `create_folder`."""
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers asks for this.
  end = 0
  # The largest items first, so that every tensor begins at a multiple of its item's size.
  for name in sorted(tensors, key=lambda name: -tensors[name][1].itemsize):
    shape, dtype = tensors[name]
    begin, end = end, end + math.prod(shape) * dtype.itemsize
    header[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % _ALIGNMENT)
  with file.open("wb") as opened:
    opened.write(struct.pack("<Q", len(text)) + text)
    opened.truncate(8 + len(text) + end)
    if end and hasattr(os, "posix_fallocate"):
      # A disk that is too full says so here; written through a map, it would end the process.
      os.posix_fallocate(opened.fileno(), 0, 8 + len(text) + end)
  return read_header(file)


def same_bits(a: Tensor, b: Tensor | None) -> bool:
  """Whether two tensors are equal in every bit, compared part by part."""
  if b is None or a.shape != b.shape or a.dtype != b.dtype:
    return False
  step = 1 << 24  # bytes
  for begin in range(0, a.nbytes, step):
    size = min(step, a.nbytes - begin)
    parts = [np.memmap(x.file, np.uint8, "r", x.start + begin, (size,)) for x in (a, b)]
    if not np.array_equal(parts[0], parts[1]):
      return False
  return True
