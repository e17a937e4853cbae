"""Parameters to start from: of another run, layout or vocabulary, or in another program's format.

All of them are first read as {name: array} of this package's model with unrolled layers, and then
converted to the layout and the shardings of the new model.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from t5x_style.checkpoints import reading, step_folders
from t5x_style.checkpoints.arrays import LazyArray, check_path, orbax_arrays
from t5x_style.checkpoints.damage import damage_is_named
from t5x_style.checkpoints.single_layers import (
  VOCABULARY_AXIS,
  Shapes,
  enlarged,
  natural,
  single_layer_shapes,
  unrolled,
  unrolled_names,
)
from t5x_style.errors import UserError, shortened
from t5x_style.models import TransformerConfig
from t5x_style.training.state import named_leaves


class Reader(NamedTuple):
  """Reads the checkpoints of another program.

  Attributes:
    read: (path, model, names and shapes of its unrolled parameters) -> the stored arrays by name;
      None if the path holds no checkpoint of the reader's format.
    stored_model: (path, model) -> the configuration of the stored model; where the checkpoint does
      not show a value, it is that of the model. None as of `read`.
  """

  read: Callable[[str, TransformerConfig, Shapes], Mapping[str, LazyArray] | None]
  stored_model: Callable[[str, TransformerConfig], TransformerConfig | None]


ADAPT_SETTING = 'INITIAL_CHECKPOINT_ADAPT = "interpolate"'
UNREADABLE = "INITIAL_CHECKPOINT_PATH = {!r} cannot be read"
# The head that classifies rows: a task brings its own, which no checkpoint has to hold.
NEW_HEAD = "pooler/"


def initial_params(
  path: str,
  config: TransformerConfig,
  abstract: Any,
  readers: Sequence[Reader] = (),
  verify: bool = True,
  initial: Any = None,
) -> Any:
  """Reads the parameters at `path` into the shapes and shardings of `abstract`.

  The layers of the checkpoint may be scanned and those of the model unrolled, or the other way
  round. If the model has more ids than the checkpoint, the new rows of its embedding and head are
  the mean of the old ones. Parameters of the head that classifies rows stay as they are in
  `initial` where the checkpoint has none of their shape; a warning names them.

  Args:
    path: a MODEL_DIR, its checkpoints/ folder, one step in it, or what one of `readers` reads.
    config: of the model.
    abstract: its parameters as abstract arrays with shardings.
    readers: of other programs' checkpoints; the first one that knows the format reads it.
    verify: compares the parameters with the digests that a run of this package saved with them.
    initial: random parameters of the model, for those that are new.

  Raises:
    UserError: there is no complete checkpoint, it is damaged, or its parameters are not those of
      this model; the message names all that differ.
  """
  with damage_is_named(UNREADABLE.format(path)):
    return _read(path, _open(path, config, abstract, readers), abstract, verify, initial)


def _read(
  path: str, found: "_Opened | epath.Path", abstract: Any, verify: bool, initial: Any
) -> Any:
  if not isinstance(found, _Opened):
    return reading.read_params(found, abstract, verify)
  if verify and found.step_dir:
    reading.check_params(found.step_dir)
  if found.grown:
    before, now = found.grown
    warnings.warn(
      f"the {before:,} ids of {path} became {now:,}: the rows of the new ones are the mean of the "
      "old rows.",
      stacklevel=2,
    )
  if found.new:
    warnings.warn(
      f"{path} does not have these parameters of the head, which are new and begin at random "
      f"values: {', '.join(found.new)}.",
      stacklevel=2,
    )
  random = named_leaves(initial)
  arrays = [
    random[name]
    if name in found.new
    else assemble(leaf, [found.stored[part] for part in found.parts[name]])
    for name, leaf in named_leaves(abstract).items()
  ]
  return jax.tree.unflatten(jax.tree.structure(abstract), arrays)


def check_initial(
  path: str, config: TransformerConfig, abstract: Any, readers: Sequence[Reader] = ()
) -> None:
  """Raises what `initial_params` would raise about names and shapes; reads no values."""
  with damage_is_named(UNREADABLE.format(path)):
    _open(path, config, abstract, readers)


class _Opened(NamedTuple):
  """A checkpoint that fits the model, whose parameters have to be assembled."""

  stored: Mapping[str, LazyArray]
  parts: Mapping[str, list[str]]  # parameter of the model -> names in the checkpoint
  grown: tuple[int, int] | None  # ids of the checkpoint and of the model, if they differ
  new: Sequence[str]  # parameters of a head that the checkpoint does not have
  step_dir: epath.Path | None  # of a run of this package


def _open(
  path: str, config: TransformerConfig, abstract: Any, readers: Sequence[Reader]
) -> _Opened | epath.Path:
  """Opens a checkpoint and compares names and shapes; if all are equal, returns the step's path."""
  if "://" in path:
    check_path(path)
  shapes = {name: tuple(leaf.shape) for name, leaf in named_leaves(abstract).items()}
  shared = getattr(config, "share_layers", False)
  parts = unrolled_names(shapes, shared)
  wanted = single_layer_shapes(shapes, parts)
  each = (reader.read(path, config, wanted) for reader in readers)
  stored = next((found for found in each if found is not None), None)
  step_dir = None
  if stored is None:
    step_dir = find_step(path)
    _check_logits(path, step_dir, config)
    saved = orbax_arrays(step_dir / "state", "params")
    if {name: x.shape for name, x in saved.items()} == shapes:
      return step_dir
    stored = unrolled(saved, shared)
  new = [
    name
    for name in wanted
    if name.startswith(NEW_HEAD) and (name not in stored or stored[name].shape != wanted[name])
  ]
  stored = {name: array for name, array in stored.items() if name not in new}
  grown = _check(path, stored, {name: x for name, x in wanted.items() if name not in new})
  for name, axis in VOCABULARY_AXIS.items():
    if name in stored and (larger := enlarged(stored[name], wanted[name], axis)):
      stored[name] = larger
  return _Opened(stored, parts, grown, new, step_dir)


def _check_logits(path: str, step_dir: epath.Path, config: TransformerConfig) -> None:
  """Raises UserError if a tied head would scale the logits otherwise than in the run that saved."""
  model = reading.read_run_of_parameters(step_dir).get("identity", {}).get("model", {})
  if not isinstance(config, TransformerConfig) or model.get("emb_dim") != config.emb_dim:
    return
  saved = dataclasses.replace(config, base_emb_dim=model.get("base_emb_dim"))
  if saved.tied_logit_factor != config.tied_logit_factor:
    raise UserError(
      f"INITIAL_CHECKPOINT_PATH = {path!r} was trained with BASE_EMB_DIM = {saved.base_emb_dim}, "
      f"by which its head scales the logits, and this model has {config.base_emb_dim}; set "
      f"BASE_EMB_DIM = {saved.base_emb_dim}."
    )


def find_step(path: str) -> epath.Path:
  """Returns the newest complete step at `path`.

  Raises:
    UserError: there is none.
  """
  found = step_folders.find_step(
    epath.Path(path).expanduser(), f"INITIAL_CHECKPOINT_PATH = {path!r}"
  )
  if found is None:
    raise UserError(
      f"INITIAL_CHECKPOINT_PATH = {path!r} holds no complete checkpoint; give a MODEL_DIR that "
      "was saved to, its checkpoints folder, one step in it, or a checkpoint_N folder of T5X."
    )
  return found


def _check(path: str, stored: Mapping[str, LazyArray], wanted: Shapes) -> tuple[int, int] | None:
  """Refuses parameters that do not fit; returns (old ids, new ids) if the vocabulary has grown."""
  saved = {name: array.shape for name, array in stored.items()}
  wrong, grown = [], set()
  for name in sorted(saved.keys() | wanted.keys(), key=natural):
    there, here = saved.get(name), wanted.get(name)
    if there == here:
      continue
    axis = VOCABULARY_AXIS.get(name)
    if there and here and axis is not None and enlarged(stored[name], here, axis):
      grown.add((there[axis], here[axis]))
    else:
      wrong.append(f"  {name}: saved {there or 'nothing'}, this model {here or 'nothing'}")
  if wrong or len(grown) > 1:
    raise UserError(
      f"INITIAL_CHECKPOINT_PATH = {path!r} is not a checkpoint of this model; "
      f"{len(wrong)} parameters differ:\n"
      + "\n".join(shortened(wrong))
      + "\nSet the sizes of MODEL to those of the checkpoint (VOCAB_SIZE may be larger). For "
      "another architecture, another number of layers, or experts that begin as a dense layer set "
      f"{ADAPT_SETTING}."
    )
  return grown.pop() if grown else None


def assemble(leaf: Any, parts: Sequence[LazyArray]) -> jax.Array:
  """Reads one parameter of the model on the host, and copies it to the devices of its shards.

  Args:
    leaf: its shape, dtype and sharding.
    parts: the parameter, or its layers along axis 0.
  """
  stacked = len(leaf.shape) > len(parts[0].shape)
  whole = np.stack([part.read() for part in parts]) if stacked else parts[0].read()
  # Each device needs a copy, because the first training step writes its result into this memory.
  return jax.make_array_from_callback(
    leaf.shape, leaf.sharding, lambda index: np.array(whole[index], leaf.dtype)
  )
