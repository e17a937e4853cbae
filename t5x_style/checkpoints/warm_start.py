"""Parameters to start from: of another run, layout or vocabulary, or in another program's format.

All of them are first read as {name: array} of this package's model with unrolled layers, and then
converted to the layout and the shardings of the new model.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from t5x_style.checkpoints import reading, step_folders
from t5x_style.checkpoints.arrays import LazyArray, check_path, orbax_arrays
from t5x_style.checkpoints.damage import damage_is_named
from t5x_style.errors import UserError, shortened
from t5x_style.models import TransformerConfig
from t5x_style.training.state import named_leaves

Shapes = Mapping[str, tuple[int, ...]]
# (path, model, names and shapes of its unrolled parameters) -> the stored arrays by name; None if
# the path holds no checkpoint of the reader's format.
Reader = Callable[[str, TransformerConfig, Shapes], Mapping[str, LazyArray] | None]

_UNREADABLE = "INITIAL_CHECKPOINT_PATH = {!r} cannot be read"
# The parameters with a row for each id of the vocabulary, and the axis of the rows.
_VOCABULARY_AXIS = {"token_embed/embedding": 0, "head/kernel": 1, "head/bias": 0}
# The head that classifies rows: a task brings its own, which no checkpoint has to hold.
_NEW_HEAD = "pooler/"
_SCANNED = re.compile(r"(?P<stack>.*/)layers/(?:block_(?P<block>\d+)/)?(?P<rest>.*)")
_UNROLLED = re.compile(r"(?P<stack>.*/)layers_(?P<layer>\d+)/.*")


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
  with damage_is_named(_UNREADABLE.format(path)):
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
    else _assemble(name, leaf, [found.stored[part] for part in found.parts[name]])
    for name, leaf in named_leaves(abstract).items()
  ]
  return jax.tree.unflatten(jax.tree.structure(abstract), arrays)


def check_initial(
  path: str, config: TransformerConfig, abstract: Any, readers: Sequence[Reader] = ()
) -> None:
  """Raises what `initial_params` would raise about names and shapes; reads no values."""
  with damage_is_named(_UNREADABLE.format(path)):
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
  wanted = {
    part: shapes[name] if part == name else shapes[name][1:]
    for name in shapes
    for part in parts[name]
  }
  each = (read(path, config, wanted) for read in readers)
  stored = next((found for found in each if found is not None), None)
  step_dir = (
    None
    if stored
    else step_folders.find_step(
      epath.Path(path).expanduser(), f"INITIAL_CHECKPOINT_PATH = {path!r}"
    )
  )
  if stored is None:
    if step_dir is None:
      raise UserError(
        f"INITIAL_CHECKPOINT_PATH = {path!r} holds no complete checkpoint; give a MODEL_DIR that "
        "was saved to, its checkpoints folder, one step in it, or a checkpoint_N folder of T5X."
      )
    saved = orbax_arrays(step_dir / "state", "params")
    if {name: x.shape for name, x in saved.items()} == shapes:
      return step_dir
    stored = unrolled(saved, shared)
  there = {name: x.shape for name, x in stored.items()}
  new = [name for name in wanted if name.startswith(_NEW_HEAD) and there.get(name) != wanted[name]]
  there, wanted = ({k: v for k, v in names.items() if k not in new} for names in (there, wanted))
  grown = _check(path, there, wanted)
  return _Opened(stored, parts, grown, new, step_dir)


def unrolled_names(shapes: Shapes, shared: bool = False) -> dict[str, list[str]]:
  """Returns, for each parameter of a model, the parameters of single layers stacked along axis 0.

  layers/x [2, ...] is layers_0/x and layers_1/x. With one unrolled layer before cycles of three
  scanned ones, layers_0/x is itself and layers/block_2/x [2, ...] is layers_3/x and layers_6/x.

  Args:
    shared: all layers share their parameters, so nothing is stacked.
  """
  lead: dict[str, set] = {}
  blocks: dict[str, set] = {}
  for name in shapes:
    if unrolled := _UNROLLED.fullmatch(name):
      lead.setdefault(unrolled["stack"], set()).add(unrolled["layer"])
    elif scanned := _SCANNED.fullmatch(name):
      blocks.setdefault(scanned["stack"], set()).add(scanned["block"])

  def parts(name, shape):
    scanned = None if shared else _SCANNED.fullmatch(name)
    if not scanned:
      return [name]
    stack = scanned["stack"]
    first = len(lead.get(stack, ())) + int(scanned["block"] or 0)
    period = len(blocks[stack])
    return [f"{stack}layers_{first + i * period}/{scanned['rest']}" for i in range(shape[0])]

  return {name: parts(name, shape) for name, shape in shapes.items()}


def unrolled(arrays: Mapping[str, LazyArray], shared: bool) -> dict[str, LazyArray]:
  """Returns the parameters of single layers."""
  result = {}
  for name, parts in unrolled_names({k: x.shape for k, x in arrays.items()}, shared).items():
    if parts == [name]:
      result[name] = arrays[name]
    else:
      result |= {part: arrays[name].layer(i) for i, part in enumerate(parts)}
  return result


def _check(path: str, saved: Shapes, wanted: Shapes) -> tuple[int, int] | None:
  """Refuses parameters that do not fit; returns (old ids, new ids) if the vocabulary has grown."""
  wrong, grown = [], set()
  for name in sorted(saved.keys() | wanted.keys(), key=_natural):
    there, here = saved.get(name), wanted.get(name)
    if there == here:
      continue
    axis = _VOCABULARY_AXIS.get(name)
    if there and here and axis is not None and _grew(there, here, axis):
      grown.add((there[axis], here[axis]))
    else:
      wrong.append(f"  {name}: saved {there or 'nothing'}, this model {here or 'nothing'}")
  if wrong or len(grown) > 1:
    raise UserError(
      f"INITIAL_CHECKPOINT_PATH = {path!r} is not a checkpoint of this model; "
      f"{len(wrong)} parameters differ:\n"
      + "\n".join(shortened(wrong))
      + "\nSet the sizes of MODEL to those of the checkpoint (VOCAB_SIZE may be larger)."
    )
  return grown.pop() if grown else None


def _grew(there, here, axis):
  def others(shape):
    return shape[:axis] + shape[axis + 1 :]

  return len(there) == len(here) and there[axis] < here[axis] and others(there) == others(here)


def _natural(name):
  """A sort key that puts layers_2 before layers_10."""
  return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _assemble(name: str, leaf: Any, parts: Sequence[LazyArray]) -> jax.Array:
  """Reads one parameter of the model on the host, and copies it to the devices of its shards."""
  stacked = len(leaf.shape) > len(parts[0].shape)
  whole = np.stack([part.read() for part in parts]) if stacked else parts[0].read()
  axis = _VOCABULARY_AXIS.get(name)
  if axis is not None and whole.shape != leaf.shape:
    whole = _enlarge(whole, leaf.shape[axis], axis)
  # Each device needs a copy, because the first training step writes its result into this memory.
  return jax.make_array_from_callback(
    leaf.shape, leaf.sharding, lambda index: np.array(whole[index], leaf.dtype)
  )


def _enlarge(rows: np.ndarray, count: int, axis: int) -> np.ndarray:
  """Appends copies of the mean row along `axis`, up to `count` of them."""
  mean = rows.astype(np.float32).mean(axis, keepdims=True)
  new = np.repeat(mean, count - rows.shape[axis], axis)
  return np.concatenate([rows.astype(np.float32), new], axis)
