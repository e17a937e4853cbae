"""Arrays of a checkpoint folder, opened by name and read one at a time, whole or by layer."""

import dataclasses
import os
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath

from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True)
class LazyArray:
  """An array that lies in a file: its shape is known, its values are read when asked for.

  Attributes:
    shape: of the whole array.
    fetch: index -> the values there.
  """

  shape: tuple[int, ...]
  fetch: Callable[[tuple[Any, ...]], np.ndarray]

  @classmethod
  def in_memory(cls, array: np.ndarray) -> "LazyArray":
    """An array in memory."""
    return cls(array.shape, lambda index: array[index])

  def read(self) -> np.ndarray:
    return self.fetch(())

  def layer(self, i: int, axis: int = 0) -> "LazyArray":
    """The part at index i of `axis`; nothing else is read."""
    shape = self.shape[:axis] + self.shape[axis + 1 :]
    return LazyArray(shape, lambda index: self.fetch((slice(None),) * axis + (i,))[index])

  def reshape(self, shape: tuple[int, ...]) -> "LazyArray":
    return LazyArray(shape, lambda index: self.read().reshape(shape)[index])


def orbax_arrays(folder: epath.Path, below: str) -> dict[str, LazyArray]:
  """{"encoder/.../kernel": array} of the tree at key `below` of what Orbax saved in `folder`.

  Raises:
    UserError: Orbax cannot read the folder, or it holds no such tree.
  """
  try:
    tree = ocp.PyTreeCheckpointer().metadata(folder).item_metadata.tree[below]
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # of damaged files
    raise UserError(
      f"INITIAL_CHECKPOINT_PATH: {str(folder)!r} is not a whole checkpoint of Orbax; give another "
      "step, or another run."
    ) from error
  names: dict[str, str] = {}

  def collect(node, path):
    if isinstance(node, Mapping):
      for key, child in node.items():
        collect(child, (*path, str(key)))
    elif node is not None and hasattr(node, "shape"):
      names["/".join(path)] = ".".join((below, *path))

  collect(tree, ())
  if (folder / "manifest.ocdbt").exists():
    # All arrays share one key-value store.
    base = tensorstore_url(folder)
    places = {
      name: {"driver": "ocdbt", "base": base, "path": f"{key}/"} for name, key in names.items()
    }
    return open_arrays(places)
  return open_arrays({name: tensorstore_url(folder / key) for name, key in names.items()})


def open_arrays(places: Mapping[str, Any]) -> dict[str, LazyArray]:
  """Opens zarr arrays, all at once, as a look into a bucket takes a while.

  Args:
    places: {name: TensorStore's description of the folder, or its URL}.

  Raises:
    UserError: an array is not there.
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
    arrays[name] = LazyArray(tuple(store.shape), _fetch(store))
  return arrays


def tensorstore_url(path: epath.PathLike) -> str:
  """file:///... or gs://..., of a folder; what has a meaning in a URL, such as "%", is escaped.

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
  """Raises UserError where TensorStore, which reads and writes all arrays, cannot use a path."""
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
