"""Arrays of a checkpoint folder: opened by name, then read whole, by layer or piece by piece."""

import dataclasses
import os
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath

from t5x_style.checkpoints.array_pieces import Index, grouped_shape, pieces
from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True)
class LazyArray:
  """An array in a file: its shape and dtype are known, its values are read on request.

  Attributes:
    shape: of the whole array.
    dtype: of its numbers.
    fetch: index -> the values there.
    chunk: the shape of the parts that are stored on their own; None where there are none.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  fetch: Callable[[tuple[Any, ...]], np.ndarray]
  chunk: tuple[int, ...] | None = None

  @classmethod
  def in_memory(cls, array: np.ndarray) -> "LazyArray":
    """Returns the same interface to an array that is in memory already."""
    return cls(array.shape, array.dtype, lambda index: array[index])

  def read(self) -> np.ndarray:
    """Returns all of its values."""
    return self.fetch(())

  def chunks(self) -> Iterator[Index]:
    """Yields the indices of the parts that are stored on their own; read each as a whole."""
    return pieces(self.shape, self.chunk or self.shape)

  @property
  def group(self) -> tuple[int, ...]:
    """Returns the shape of parts of about PIECE_BYTES, each of one or more whole chunks."""
    return grouped_shape(self.shape, self.chunk or self.shape, self.dtype.itemsize)

  def groups(self) -> Iterator[Index]:
    """Yields the indices of such parts."""
    return pieces(self.shape, self.group)

  def layer(self, i: int, axis: int = 0) -> "LazyArray":
    """Returns the part at index i of `axis`; nothing else will be read."""
    shape = self.shape[:axis] + self.shape[axis + 1 :]
    before = (slice(None),) * axis
    return LazyArray(shape, self.dtype, lambda index: self.fetch((*before, i))[index])

  def reshape(self, shape: tuple[int, ...]) -> "LazyArray":
    """Returns the same values in another shape; reading a part of it reads all."""
    return LazyArray(shape, self.dtype, lambda index: self.read().reshape(shape)[index])


def orbax_arrays(
  folder: epath.PathLike, key: str | None, setting: str = "INITIAL_CHECKPOINT_PATH"
) -> dict[str, LazyArray]:
  """Opens what Orbax saved in a folder: {"encoder/.../kernel": array} of the tree at `key`.

  Args:
    key: such as "params"; None opens everything, as {"params/encoder/.../kernel": array}.
    setting: the setting or flag that led to the folder, for messages.

  Raises:
    UserError: Orbax cannot read the folder, or it holds no such tree.
  """
  folder = epath.Path(folder).absolute()
  check_path(folder)
  try:
    tree = ocp.PyTreeCheckpointer().metadata(folder).item_metadata.tree
    tree = tree if key is None else tree[key]
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # of damaged files
    raise UserError(
      f"{setting}: {str(folder)!r} is not a whole checkpoint of Orbax; give another step, or "
      "another run."
    ) from error
  above = () if key is None else (key,)
  names = {"/".join(path): ".".join((*above, *path)) for path in _paths(tree)}
  if (folder / "manifest.ocdbt").exists():
    # All arrays share one key-value store.
    base = tensorstore_url(folder)
    return open_arrays(
      {name: {"driver": "ocdbt", "base": base, "path": f"{x}/"} for name, x in names.items()}
    )
  return open_arrays({name: tensorstore_url(folder / x) for name, x in names.items()})


def _paths(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
  """Yields the keys of every array in a tree of dictionaries and lists."""
  if isinstance(node, Mapping | list | tuple):
    children = node.items() if isinstance(node, Mapping) else enumerate(node)
    for key, child in children:
      yield from _paths(child, (*path, str(key)))
  elif node is not None and hasattr(node, "shape"):
    yield path


def open_arrays(places: Mapping[str, Any]) -> dict[str, LazyArray]:
  """Opens zarr arrays, all at the same time, because opening one in a bucket takes a while.

  Args:
    places: {name: the folder of the array as a URL or as TensorStore's description of it}.

  Raises:
    UserError: an array does not exist or cannot be read.
  """
  opened = {name: _open(place, "zarr") for name, place in places.items()}
  arrays = {}
  for name, future in opened.items():
    try:
      store = future.result()
    except ValueError:
      try:
        store = _open(places[name], "zarr3").result()
      except ValueError as error:
        raise UserError(f"the array {name} cannot be opened: {error}") from error
    chunk = tuple(store.chunk_layout.read_chunk.shape or ())  # None of a scalar
    arrays[name] = LazyArray(tuple(store.shape), store.dtype.numpy_dtype, _fetch(store), chunk)
  return arrays


def tensorstore_url(path: epath.PathLike) -> str:
  """Returns the URL of a folder, file:///... or gs://..., with "%" and the like escaped.

  Raises:
    UserError: TensorStore cannot use the path.
  """
  scheme, separator, rest = str(path).partition("://")
  if separator:
    return f"{scheme}://{urllib.parse.quote(rest)}/"
  folder = os.path.abspath(path)
  check_path(folder)
  return f"file://{urllib.parse.quote(folder)}/"


def check_path(path: epath.PathLike) -> None:
  """Raises UserError if TensorStore, which reads and writes all arrays, cannot use a path."""
  scheme, separator, rest = str(path).partition("://")
  if separator and (scheme != "gs" or not rest.strip("/")):
    raise UserError(
      f"The path {str(path)!r} is neither a local path nor gs://BUCKET/FOLDER; checkpoints are "
      "stored nowhere else."
    )
  reason = None
  if "\\" in str(path):
    reason = "has a backslash in it, which TensorStore takes for a slash"
  if any("\ud800" <= character <= "\udfff" for character in str(path)):
    reason = "is not UTF-8, as TensorStore needs it"
  if reason:
    raise UserError(
      f"The path {str(path)!r} {reason} (it stores the arrays of checkpoints). Choose another name."
    )


def _open(place, driver):
  return ts.open({"driver": driver, "kvstore": place}, open=True)


def _fetch(store):
  return lambda index: store[index].read().result() if index else store.read().result()
