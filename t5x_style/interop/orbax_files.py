"""Orbax checkpoints, read and written array by array and piece by piece.

Orbax itself wants a whole state in memory. Its files are plain: every array is a zarr array in one
OCDBT key-value store, under its path joined by dots, and _METADATA lists the arrays. TensorStore
opens any piece of them.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from t5x_style.checkpoints.arrays import tensorstore_url
from t5x_style.errors import UserError

Keys = tuple[str, ...]
Index = tuple[slice, ...]

PIECE_BYTES = 1 << 26  # 64 MiB: of an array that is written, how much is held in memory at once
_DICT_KEY = 2  # Orbax's number for a key of a dictionary


class Writer:
  """Writes a pytree of dictionaries as STEP/state; a checkpoint after `close`."""

  def __init__(self, step: Path):
    self._folder = step / "state"
    self._folder.mkdir(parents=True)
    self._shapes: dict[Keys, tuple[int, ...]] = {}
    self._context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})

  def create(self, keys: Keys, shape: tuple[int, ...], chunk: Sequence[int], dtype: Any) -> Any:
    """An array whose chunks are then assigned: array[index] = values."""
    self._shapes[keys] = shape
    spec = {
      "driver": "zarr",
      "kvstore": _ocdbt(self._folder, keys),
      "dtype": np.dtype(dtype).name,
      "metadata": {
        "shape": list(shape),
        "chunks": list(chunk),
        "compressor": {"id": "zstd", "level": 1},
      },
      "store_data_equal_to_fill_value": True,
    }
    return ts.open(spec, create=True, context=self._context).result()

  def close(self) -> None:
    """Writes what Orbax needs to know about the arrays."""
    tree = {
      str(keys): {
        "key_metadata": [{"key": key, "key_type": _DICT_KEY} for key in keys],
        "value_metadata": {
          "value_type": "jax.Array",
          "skip_deserialize": False,
          "write_shape": list(shape),
        },
      }
      for keys, shape in self._shapes.items()
    }
    metadata = {
      "tree_metadata": tree,
      "use_ocdbt": True,
      "use_zarr3": False,
      "store_array_data_equal_to_fill_value": True,
      "custom_metadata": None,
    }
    (self._folder / "_METADATA").write_text(json.dumps(metadata))


def open_arrays(step: Path, under: str = "params") -> dict[Keys, Any]:
  """The arrays of a checkpoint below one key of its state, opened and not read.

  Raises:
    UserError: the step is not a checkpoint of Orbax, or is damaged, or cannot be read there.
  """
  folder = step / "state"
  try:
    metadata = json.loads((folder / "_METADATA").read_text())
    entries = metadata["tree_metadata"].values()
    keys = [tuple(str(key["key"]) for key in entry["key_metadata"]) for entry in entries]
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(f"{str(step)!r} is not a checkpoint of this package: {error}.") from error
  context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
  found = {}
  for path in keys:
    if path[0] == under:
      ocdbt = metadata.get("use_ocdbt", True)
      spec = {
        "driver": "zarr3" if metadata.get("use_zarr3") else "zarr",
        "kvstore": _ocdbt(folder, path) if ocdbt else tensorstore_url(folder / ".".join(path)),
      }
      try:
        found[path[1:]] = ts.open(spec, open=True, context=context).result()
      except ValueError as error:
        message = str(error).partition(" [")[0]
        raise UserError(f"{str(step)!r} lacks {'/'.join(path)}: {message}.") from error
  return found


def chunks(array: Any) -> Iterator[Index]:
  """The parts of an opened array that are stored as one, each to be read as a whole."""
  return grid(array.shape, array.chunk_layout.read_chunk.shape)


def grid(shape: Sequence[int], chunk: Sequence[int]) -> Iterator[Index]:
  """The pieces of at most `chunk` that an array is cut into."""
  steps = [
    [slice(begin, min(begin + size, n)) for begin in range(0, n, size)]
    for n, size in zip(shape, chunk, strict=True)
  ]
  yield from itertools.product(*steps)


def piece_shape(shape: Sequence[int], itemsize: int, axis: int) -> tuple[int, ...]:
  """The shape of pieces of at most PIECE_BYTES, cut along one axis."""
  row = math.prod(shape) // shape[axis] * itemsize
  size = min(shape[axis], max(1, PIECE_BYTES // row))
  return (*shape[:axis], size, *shape[axis + 1 :])


def _ocdbt(folder: Path, keys: Keys) -> dict[str, Any]:
  return {
    "driver": "ocdbt",
    "base": tensorstore_url(folder),
    "path": ".".join(keys) + "/",
  }
