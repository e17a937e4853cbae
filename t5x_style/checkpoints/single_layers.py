"""Parameters by name with unrolled layers, however they are stored; and larger vocabularies."""

import re
from collections.abc import Mapping

import numpy as np

from t5x_style.checkpoints.arrays import LazyArray

Shapes = Mapping[str, tuple[int, ...]]

# The parameters with a row for each id of the vocabulary, and the axis of the rows.
VOCABULARY_AXIS = {"token_embed/embedding": 0, "head/kernel": 1, "head/bias": 0}
_SCANNED = re.compile(r"(?P<stack>.*/)layers/(?:block_(?P<block>\d+)/)?(?P<rest>.*)")
_UNROLLED = re.compile(r"(?P<stack>.*/)layers_(?P<layer>\d+)/.*")


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


def single_layer_shapes(shapes: Shapes, parts: Mapping[str, list[str]]) -> Shapes:
  """Returns the shapes of the parameters of single layers.

  Args:
    parts: what `unrolled_names` returned for these shapes.
  """
  return {
    part: shapes[name] if part == name else shapes[name][1:]
    for name in shapes
    for part in parts[name]
  }


def enlarged(array: LazyArray, shape: tuple[int, ...], axis: int) -> LazyArray | None:
  """Returns an array with copies of its mean row appended along `axis`, up to `shape`.

  None if the array has more rows than that, or differs in another dimension.
  """
  if array.shape == shape:
    return array
  count = shape[axis] - array.shape[axis]
  others = (array.shape[:axis] + array.shape[axis + 1 :], shape[:axis] + shape[axis + 1 :])
  if count < 0 or others[0] != others[1]:
    return None

  def with_means(index):
    rows = array.read().astype(np.float32)
    new = np.repeat(rows.mean(axis, keepdims=True), count, axis)
    return np.concatenate([rows, new], axis)[index]

  return LazyArray(shape, np.dtype(np.float32), with_means)


def natural(name):
  """A sort key that puts layers_2 before layers_10."""
  return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
