"""The folders of T5X checkpoints: which arrays they hold, under T5X's own names.

T5X wrote three layouts (t5x/checkpoints.py of 2021 to 2024):
  checkpoint_N/checkpoint         a msgpack file of {"optimizer": {"target": tree, "state": ...}};
                                  a leaf is an array or names a zarr folder beside the file
  checkpoint_N/target.encoder.layers_0.mlp.wo.kernel/   such a folder
  checkpoint_N/state/             the same by Orbax of 2023: there is no "optimizer", and a leaf
                                  is an array or "PLACEHOLDER://name" for a zarr folder
  checkpoint_N/state/             the same by later Orbax: _METADATA and no msgpack file
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
  """Returns the folder of arrays of a T5X model folder, of a checkpoint_N or its file `checkpoint`.

  None where `path` is none of these.
  """
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
  """Opens the parameters in a folder that `find` returned.

  Returns:
    {"encoder/layers_0/mlp/wo/kernel": array}.

  Raises:
    UserError: the folder is damaged or of a kind that cannot be read, or an array is missing.
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
  except Exception as error:  # msgpack raises a dozen kinds
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
  """Returns whether Orbax saved a tree there with T5X's key "target"."""
  metadata = folder / "_METADATA"
  return metadata.is_file() and "('target'" in metadata.read_text()


def _collect(node: Any, name: str, found: dict[str, Any]) -> None:
  """Adds the leaves of a tree to {"encoder/layers_0/mlp/wo/kernel": leaf}."""
  if isinstance(node, Mapping) and not {"driver", "kvstore"} <= node.keys():
    for key, child in node.items():
      _collect(child, f"{name}/{key}" if name else str(key), found)
  elif node is not None:
    found[name] = node


def _folder_name(name: str, leaf: Any) -> str:
  """Returns the name of the zarr folder that a leaf of the msgpack file stands for."""
  if isinstance(leaf, str) and leaf.startswith(_PLACEHOLDER):
    return leaf.removeprefix(_PLACEHOLDER)
  if isinstance(leaf, Mapping):
    if leaf.get("dtype") == "uint16":
      raise UserError(f"{name} is a bfloat16 array kept as uint16 (before June 2021); not read.")
    # The path is relative, and the bucket is the writer's; old TensorStore has it outside kvstore.
    path = leaf["kvstore"].get("path") or leaf.get("path")
    return str(path).rstrip("/")
  raise UserError(f"{name} is a {type(leaf).__name__}, not an array; the checkpoint is not T5X's.")
