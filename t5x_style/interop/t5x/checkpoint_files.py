"""The folders T5X saves its checkpoints in: which arrays they hold, under T5X's own names.

Three layouts are about (t5x/checkpoints.py of 2021 to 2024):
  checkpoint_N/checkpoint         a msgpack file of {"optimizer": {"target": tree, "state": ...}};
                                  arrays are in it, or it names the zarr folders beside it
  checkpoint_N/target.encoder.layers_0.mlp.wo.kernel/   such a folder
  checkpoint_N/state/...          the same by Orbax: the msgpack file holds no "optimizer" and
                                  "PLACEHOLDER://name" for the zarr folders, or, since Orbax keeps
                                  _METADATA, there is none
"""

import re
from collections.abc import Mapping
from typing import Any

import flax.serialization
import numpy as np
from etils import epath

from t5x_style.checkpoints.arrays import LazyArray, open_arrays, orbax_arrays, tensorstore_url
from t5x_style.errors import UserError

_STEP = re.compile(r"checkpoint_(\d+)")
_PLACEHOLDER = "PLACEHOLDER://"


def find(path: str) -> epath.Path | None:
  """The folder of arrays in a T5X model folder, a checkpoint_N, or with the file `checkpoint`."""
  folder = epath.Path(path).expanduser()
  if folder.name == "checkpoint" and folder.is_file():
    folder = folder.parent
  if not folder.is_dir():
    return None
  steps = [step for step in folder.iterdir() if _STEP.fullmatch(step.name)]
  if steps:
    folder = max(steps, key=lambda step: int(_STEP.fullmatch(step.name)[1]))  # type: ignore[index]
  for place in (folder, folder / "state"):
    if (place / "checkpoint").is_file() or _is_orbax(place):
      return place
  return None


def arrays(folder: epath.Path) -> dict[str, LazyArray]:
  """{"encoder/layers_0/mlp/wo/kernel": array} of the parameters in a folder of `find`.

  Raises:
    UserError: it is no T5X checkpoint after all, or of a kind that is not read, or an array that it
      names is not there.
  """
  file = folder / "checkpoint"
  if not file.is_file():
    return orbax_arrays(folder, "target")
  content = file.read_bytes()
  if content.startswith(b"model_checkpoint_path"):
    raise UserError(
      f"INITIAL_CHECKPOINT_PATH = {str(folder)!r} is a TensorFlow checkpoint (Mesh TensorFlow T5); "
      "convert it with T5X first, or take the T5X version of the model."
    )
  try:
    tree = flax.serialization.msgpack_restore(content)
    tree = tree.get("optimizer", tree)["target"]
  except Exception as error:  # msgpack has a dozen kinds
    raise UserError(
      f"INITIAL_CHECKPOINT_PATH: {str(file)!r} cannot be read as a T5X checkpoint ({error!r}); it "
      "is damaged, or of another program."
    ) from error
  found: dict[str, Any] = {}
  _collect(tree, "", found)
  places, result = {}, {}
  for name, leaf in found.items():
    if isinstance(leaf, np.ndarray):
      result[name] = LazyArray.in_memory(leaf)
    else:
      places[name] = tensorstore_url(folder / _folder_name(name, leaf))
  opened = open_arrays(places)
  return {name: result[name] if name in result else opened[name] for name in found}


def _is_orbax(folder: epath.Path) -> bool:
  """Whether Orbax saved a tree there whose parameters are called "target", as T5X does."""
  metadata = folder / "_METADATA"
  return metadata.is_file() and "('target'" in metadata.read_text()


def _collect(node: Any, name: str, found: dict[str, Any]) -> None:
  if isinstance(node, Mapping) and not {"driver", "kvstore"} <= node.keys():
    for key, child in node.items():
      _collect(child, f"{name}/{key}" if name else str(key), found)
  elif node is not None:
    found[name] = node


def _folder_name(name: str, leaf: Any) -> str:
  """Of the zarr folder that a leaf of the msgpack file stands for."""
  if isinstance(leaf, str) and leaf.startswith(_PLACEHOLDER):
    return leaf.removeprefix(_PLACEHOLDER)
  if isinstance(leaf, Mapping):
    if leaf.get("dtype") == "uint16":
      raise UserError(f"{name} is a bfloat16 array kept as uint16 (before June 2021); not read.")
    # The path is relative, and the bucket that of whoever wrote it; old TensorStore has it outside.
    path = leaf["kvstore"].get("path") or leaf.get("path")
    return str(path).rstrip("/")
  raise UserError(f"{name} is {type(leaf).__name__}, no array; the checkpoint is not T5X's.")
