"""Writes a checkpoint that Orbax restores, one piece of an array at a time.

Orbax saves arrays that are in memory as a whole (a PyTreeSave may be partial, but only by whole
arrays), and a stacked parameter of a large model is larger than a machine's memory. Its files are
plain: every array is a zarr array in one OCDBT key-value store, under its path joined by dots, and
_METADATA lists the arrays. Orbax does not document _METADATA; the range of its versions in
pyproject.toml and a test that restores with Orbax keep this writer right.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from t5x_style.checkpoints.arrays import tensorstore_url
from t5x_style.checkpoints.step_folders import COMMIT_MARKER

_DICT_KEY = 2  # Orbax's number for a key of a dictionary


class ArrayWriter:
  """Writes a tree of dictionaries as STEP/state, which is a checkpoint after `close`."""

  def __init__(self, step: Path):
    self._folder = step / "state"
    self._folder.mkdir(parents=True)
    self._shapes: dict[tuple[str, ...], tuple[int, ...]] = {}
    self._context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})

  def create(
    self, keys: tuple[str, ...], shape: tuple[int, ...], chunk: Sequence[int], dtype: Any
  ) -> Any:
    """Creates an array, to be filled piece by piece: array[index] = values.

    Args:
      keys: its path in the tree.
      chunk: the shape of the parts that are stored, and later read, on their own.
    """
    self._shapes[keys] = shape
    spec = {
      "driver": "zarr",
      "kvstore": {
        "driver": "ocdbt",
        "base": tensorstore_url(self._folder),
        "path": ".".join(keys) + "/",
      },
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
    # Without it a copy in a bucket would count as one whose save was interrupted.
    (self._folder.parent / COMMIT_MARKER).write_text("The checkpoint is complete.")
