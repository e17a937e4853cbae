"""safetensors files, read and written through memory maps: no tensor is in memory as a whole.

A file is 8 bytes (the length of the header, little-endian), a header in JSON that gives the dtype,
shape and place of each tensor, and the bytes of the tensors (the section "Format" of
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
_ALIGNMENT = 8  # bytes; spaces are added to the header


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One tensor of a file; `map` returns its content."""

  file: Path
  start: int  # bytes from the beginning of the file
  shape: tuple[int, ...]
  dtype: np.dtype

  @property
  def nbytes(self) -> int:
    return math.prod(self.shape) * self.dtype.itemsize

  def map(self, writable: bool = False) -> np.ndarray:
    """Returns the tensor as an array over the file; only what is used is read."""
    if not self.nbytes:
      return np.zeros(self.shape, self.dtype)
    mode: Any = "r+" if writable else "r"
    return np.memmap(self.file, self.dtype, mode, self.start, self.shape)


def read_folder(folder: str | Path) -> dict[str, Tensor]:
  """Returns {name: Tensor} of the model in a Hugging Face folder.

  As in transformers, a single file takes precedence over an index, which may be outdated.

  Raises:
    UserError: the folder does not exist or holds no safetensors, or a file is missing or damaged,
      or a file lacks a tensor that the index says it has.
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
      f"{str(folder)!r} holds {others[0]}, which only PyTorch can read, and no {SINGLE}. Convert "
      "it where PyTorch and transformers are installed: AutoModelForMaskedLM (or another class "
      'that config.json names under "architectures").from_pretrained(FOLDER).save_pretrained('
      "NEW_FOLDER)."
    )
  raise UserError(
    f"{str(folder)!r} holds neither {SINGLE} nor {INDEX}"
    + (f", only {', '.join(others[:4])}." if others else ".")
  )


def read_header(file: Path) -> dict[str, Tensor]:
  """Returns {name: Tensor} of one file.

  Raises:
    UserError: it is not a safetensors file, or is cut short, or is otherwise damaged.
  """
  size = file.stat().st_size
  header, start = _parse_header(file, size)
  found, places = {}, []
  for name, entry in header.items():
    try:
      shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
      code = entry["dtype"]
      if not all(type(x) is int and x >= 0 for x in (*shape, begin, end)):
        raise ValueError
    except (KeyError, TypeError, ValueError):
      raise _damaged(file, f"its header says nothing sensible about {name!r}") from None
    if str(code) not in DTYPES:
      raise UserError(
        f"{name!r} in {str(file)!r} is of dtype {code}; known are {', '.join(DTYPES)}. Quantised "
        "models cannot be converted."
      )
    found[name] = Tensor(file, start + begin, shape, DTYPES[code])
    if end - begin != found[name].nbytes:
      raise _damaged(file, f"{name!r} {list(shape)} takes {end - begin:,} bytes")
    places.append((begin, end))
  # The tensors follow each other without gaps, up to the end of the file.
  reached = 0
  for begin, end in sorted(places):
    if begin != reached:
      raise _damaged(file, f"its tensors overlap or leave a gap at byte {reached:,}")
    reached = end
  if start + reached != size:
    raise _damaged(file, f"it should have {start + reached:,} bytes and has {size:,}")
  return found


def _parse_header(file: Path, size: int) -> tuple[dict[str, Any], int]:
  """Returns {name: entry} of a file of `size` bytes, and the byte at which the tensors start."""
  with file.open("rb") as opened:
    start = opened.read(8)
    if len(start) < 8:
      raise _damaged(file, f"it has {size} bytes")
    (length,) = struct.unpack("<Q", start)
    if start == b"version ":
      raise UserError(
        f"{str(file)!r} is only a pointer of Git LFS to the file; `git lfs pull` fetches it."
      )
    if length > size - 8:
      raise _damaged(file, f"its header should be {length:,} bytes long, the file has {size:,}")
    try:
      header = json.loads(opened.read(length))
      if not isinstance(header, dict):
        raise ValueError
    except (ValueError, RecursionError):
      raise _damaged(file, "its header is not JSON") from None
  header.pop("__metadata__", None)
  return header, 8 + length


def _damaged(file: Path, reason: str) -> UserError:
  return UserError(f"{str(file)!r} is not a whole safetensors file: {reason}. Copy it again.")


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
  """Creates the files of a model with zeros in all tensors, to be filled through `Tensor.map`.

  Args:
    tensors: {name: (shape, dtype)}, in the order of the files.
    max_shard_size: the largest size of a file, in bytes, unless a single tensor is larger.

  Returns:
    {name: Tensor}.
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
  """Creates one file with zeros in all tensors; see `create_folder`."""
  header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers needs this.
  end = 0
  # The dtypes of most bytes first, so that every tensor begins at a multiple of its item's size.
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
      # A full disk raises here; a write through a map would kill the process.
      os.posix_fallocate(opened.fileno(), 0, 8 + len(text) + end)
  return read_header(file)


def same_bits(a: Tensor, b: Tensor | None) -> bool:
  """Returns whether two tensors are equal in every bit; compares them part by part."""
  if b is None or a.shape != b.shape or a.dtype != b.dtype:
    return False
  step = 1 << 24  # bytes
  for begin in range(0, a.nbytes, step):
    size = min(step, a.nbytes - begin)
    parts = [np.memmap(x.file, np.uint8, "r", x.start + begin, (size,)) for x in (a, b)]
    if not np.array_equal(parts[0], parts[1]):
      return False
  return True
