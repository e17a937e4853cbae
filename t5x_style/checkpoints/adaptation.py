"""What each parameter of a model begins as if the checkpoint has another architecture or depth.

A decoder becomes an encoder-decoder (T5Gemma, Zhang et al. 2025, section 3) or an encoder
(Gisserot-Boukhlef et al. 2025), an encoder becomes an encoder-decoder (Rothe et al. 2020, section
3), and an encoder-decoder loses one of its sides:

  a side of the model         begins as the same side of the checkpoint, or as its only side
  its layers                  as `layer_choice.source_layers` says
  cross-attention             that of the checkpoint, or the self-attention of the same layer
  a head of its own           that of the checkpoint, or the table of embeddings that was its head
  relative positions          the same distances, where encoder and decoder count them differently
  fewer key and value heads   their mean (grouped queries, Ainslie et al. 2023, section 2.1)
  experts of a dense layer    its feed-forward network, each of them (Komatsuzaki et al. 2023)
  more ids                    the mean of the old rows
  everything else             the same parameter; the model's own initial value if there is none
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from t5x_style.checkpoints.arrays import LazyArray
from t5x_style.checkpoints.layer_choice import source_layers
from t5x_style.checkpoints.single_layers import VOCABULARY_AXIS, Shapes, enlarged, natural
from t5x_style.checkpoints.warm_start import NEW_HEAD
from t5x_style.errors import UserError, shortened
from t5x_style.models import TransformerConfig
from t5x_style.models.attention import relative_buckets
from t5x_style.setting_types import LayerRule

_SIDES = ("encoder", "decoder")
EXPERTS = "mlp/experts/"
_IN_LAYER = re.compile(r"(encoder|decoder)/layers_(\d+)/(.*)")
# What a layer cannot do without. Of norms, biases and routers a model may have more than the
# checkpoint.
_NEEDED = re.compile(r".*/(self_attention|mlp|experts)/(?!router)\w+/kernel")
_KEY_OR_VALUE = re.compile(r".*_attention/(key|value)/(kernel|bias)")
# Encoder-decoders have one for each side; the decoder's is called decoder_position_embed.
_OF_EACH_SIDE = ("position_embed", "embed_norm")


class Origin(NamedTuple):
  """What one parameter, or one layer of a stacked one, begins as.

  Attributes:
    array: its values; of a table it may be only the first rows. None: the initial value of the
      model, which the rest of such a table has, too.
    text: where they come from, for a report.
    used: the parameter of the checkpoint; "" if there is none.
  """

  array: LazyArray | None
  text: str
  used: str = ""


NEW = Origin(None, "new: the model's own initial value")


class Adaptation(NamedTuple):
  """How a checkpoint of another model becomes the parameters of this one.

  Attributes:
    origins: by the names of parameters of single layers.
    left_out: the parameters of the checkpoint that this model does not have.
    layers: of each side of the model, the side of the checkpoint and its layers.
  """

  origins: Mapping[str, Origin]
  left_out: Shapes
  layers: Mapping[str, tuple[str, list[int]]]


def adapt(
  saved: Mapping[str, LazyArray],
  wanted: Shapes,
  rule: LayerRule,
  config: TransformerConfig,
  saved_config: TransformerConfig | None = None,
) -> Adaptation:
  """Finds what each parameter begins as; reads no values.

  Args:
    saved: the parameters of the checkpoint, with unrolled layers.
    wanted: those of the model.
    rule: which layers are chosen where their numbers differ.
    config: of the model.
    saved_config: of the checkpoint, if it is known; else what the shapes do not show is taken to be
      as in `config`.

  Raises:
    UserError: widths differ, the vocabulary is smaller, or the rule does not cover the numbers of
      layers.
  """
  shapes = {name: array.shape for name, array in saved.items()}
  layers = _choose_layers(rule, shapes, wanted)
  origins, wrong = {}, []
  for name, shape in wanted.items():
    used = next((x for x in _names_in_checkpoint(name, layers, config) if x in saved), None)
    found: Origin | None = NEW
    if used is not None:
      context = (config, saved_config or config)
      found = _converted(name, used, saved[used], shape, *context)
    elif name == "head/kernel" and "token_embed/embedding" in saved:
      found = _head_of_table(saved["token_embed/embedding"], shape, saved_config or config)
    elif _NEEDED.fullmatch(name):
      found = None
    if found is None and name.startswith(NEW_HEAD):
      found = NEW
    if found is None:
      there = shapes.get(used or "", "nothing")
      wrong.append(f"  {name}: saved {there}, this model {shape}")
    else:
      origins[name] = found
  if wrong:
    raise UserError(_misfit(wrong, shapes, wanted))
  used_names = {origin.used for origin in origins.values()}
  left_out = {name: shapes[name] for name in sorted(shapes, key=natural) if name not in used_names}
  return Adaptation(origins, left_out, layers)


def _choose_layers(
  rule: LayerRule, saved: Shapes, wanted: Shapes
) -> dict[str, tuple[str, list[int]]]:
  """Returns, for each side of the model, the side of the checkpoint and the layers to take."""
  there, here = _layer_counts(saved), _layer_counts(wanted)
  if not there:
    raise UserError("INITIAL_CHECKPOINT_PATH holds no layers of an encoder or a decoder.")
  if (0 in there.values()) != (0 in here.values()):
    raise UserError(
      "INITIAL_CHECKPOINT_ADAPT: no rule turns layers that share their parameters into others, or "
      "the reverse; set share_layers of config.TransformerConfig as in the checkpoint."
    )
  chosen = {}
  for side, count in here.items():
    origin = side if side in there else next(iter(there))
    chosen[side] = (origin, source_layers(rule, count, there[origin], side))
  return chosen


def _layer_counts(shapes: Shapes) -> dict[str, int]:
  """Returns the number of layers of each side, 0 where they share their parameters."""
  counts: dict[str, int] = {}
  for name in shapes:
    side = name.partition("/")[0]
    if found := _IN_LAYER.fullmatch(name):
      counts[side] = max(counts.get(side, 0), int(found[2]) + 1)
    elif side in _SIDES and "/shared_layers/" in name:
      counts[side] = 0
  return {side: counts[side] for side in _SIDES if side in counts}


def _names_in_checkpoint(
  name: str, layers: Mapping[str, tuple[str, list[int]]], config: TransformerConfig
) -> list[str]:
  """Returns the names under which the checkpoint may hold a parameter, the best one first."""
  module, _, rest = name.partition("/")
  if module in layers:
    origin, numbers = layers[module]
    found = _IN_LAYER.fullmatch(name)
    if found is None:
      return [f"{origin}/{rest}"]
    inside = [found[3], found[3].replace("cross_attention", "self_attention", 1)]
    inside.append(found[3].replace(EXPERTS, "mlp/", 1))
    return [f"{origin}/layers_{numbers[int(found[2])]}/{x}" for x in inside]
  shared = module.removeprefix("decoder_")
  of_decoder = module != shared or not config.num_encoder_layers
  if shared in _OF_EACH_SIDE and of_decoder:
    return [f"decoder_{shared}/{rest}", f"{shared}/{rest}"]
  return [name]


def _converted(
  name: str,
  used: str,
  array: LazyArray,
  shape: tuple[int, ...],
  config: TransformerConfig,
  saved_config: TransformerConfig,
) -> Origin | None:
  """Returns a parameter of the checkpoint in the shape of the model's, None if no rule does it."""
  if name.endswith("/relative_bias/embedding"):
    return _same_distances(name, used, array, shape, config, saved_config)
  if array.shape == shape:
    return Origin(array, used, used)
  if EXPERTS in name and EXPERTS not in used and array.shape == shape[1:]:
    each = LazyArray(shape, array.dtype, lambda i: np.broadcast_to(array.read(), shape)[i])
    return Origin(each, f"{used}, for each expert", used)
  axis = VOCABULARY_AXIS.get(name)
  if axis is not None:
    larger = enlarged(array, shape, axis)
    text = f"{used}; the new ids begin as the mean of its rows"
    return Origin(larger, text, used) if larger else None
  if name.endswith("position_embed/embedding") and array.shape[1:] == shape[1:]:
    rows = min(array.shape[0], shape[0])
    part = LazyArray((rows, *shape[1:]), array.dtype, lambda index: array.read()[:rows][index])
    rest = f"; rows from {rows} on are new" if rows < shape[0] else f", its first {rows} rows"
    return Origin(part, used + rest, used)
  return _grouped(used, array, shape) if _KEY_OR_VALUE.fullmatch(name) else None


def _grouped(used: str, array: LazyArray, shape: tuple[int, ...]) -> Origin | None:
  """Returns the mean of each group of key or value heads (Ainslie et al. 2023, section 2.1).

  Args:
    array, shape: [D, K, H] or [K, H]; K of the shape divides that of the array.
  """
  *before, heads, width = array.shape
  if array.shape[:-2] != shape[:-2] or width != shape[-1] or heads % shape[-2]:
    return None
  groups = (*before, shape[-2], heads // shape[-2], width)

  def mean(index):
    return array.read().astype(np.float32).reshape(groups).mean(-2)[index]

  text = f"{used}, the mean of every {groups[-2]} heads"
  return Origin(LazyArray(shape, np.dtype(np.float32), mean), text, used)


def _head_of_table(
  table: LazyArray, shape: tuple[int, ...], saved: TransformerConfig
) -> Origin | None:
  """Returns a head [D, V] that computes the logits of a tied table [V, D]."""
  rows = enlarged(table, (shape[1], shape[0]), 0)
  if rows is None:
    return NEW
  factor = (saved.emb_dim**-0.5 if saved.scale_logits else 1.0) * saved.tied_logit_factor

  def transposed(index):
    return (rows.read().astype(np.float32).T * factor)[index]

  text = "token_embed/embedding, transposed" + (f" and times {factor:.4g}" if factor != 1 else "")
  array = LazyArray(shape, np.dtype(np.float32), transposed)
  return Origin(array, text, "token_embed/embedding")


def _same_distances(
  name: str,
  used: str,
  array: LazyArray,
  shape: tuple[int, ...],
  config: TransformerConfig,
  saved: TransformerConfig,
) -> Origin | None:
  """Returns a table [N, buckets] of relative positions that means the same by other buckets.

  A decoder counts only distances to the left; to the right they begin as to the left.
  """
  if array.shape[0] != shape[0]:
    return None
  to = (name.startswith("encoder/"), shape[1], config.relative_max_distance)
  of = (used.startswith("encoder/"), array.shape[1], saved.relative_max_distance)
  if to == of:
    return Origin(array, used, used)
  columns = rebucketing(of, to)

  def mean(index):
    table = array.read().astype(np.float32)
    return np.stack([table[:, x].mean(1) for x in columns], axis=1)[index]

  text = f"{used}, its buckets of distances converted"
  return Origin(LazyArray(shape, np.dtype(np.float32), mean), text, used)


def rebucketing(of: tuple[bool, int, int], to: tuple[bool, int, int]) -> list[np.ndarray]:
  """Returns, for each bucket of relative positions, the other buckets of the same distances.

  Args:
    of, to: (whether keys on the right are counted apart, buckets, largest distance in tokens).

  Returns:
    for each bucket of `to`, the bucket of `of` for every distance that falls in it; a bucket that
    no distance falls in has that of distance 0.
  """
  farthest = max(of[2], to[2])
  distances = jnp.arange(-farthest, (farthest if to[0] else 0) + 1)
  in_to = np.asarray(relative_buckets(distances, *to))
  in_of = np.asarray(relative_buckets(distances if of[0] else -jnp.abs(distances), *of))
  return [in_of[in_to == i] if (in_to == i).any() else np.array([0]) for i in range(to[1])]


def _misfit(wrong: list[str], saved: Shapes, wanted: Shapes) -> str:
  """Returns the message about parameters that no rule converts."""
  there, here = _widths(saved), _widths(wanted)
  if "the number of experts" not in there:  # Its dense layers become them, if they are as wide.
    there = {
      "the number of experts": here.get("the number of experts", 0),
      "the width of experts": there.get("mlp_dim", 0),
    } | there
  differing = [
    f"{name} = {here[name]}, in the checkpoint {there.get(name, 'none')}"
    for name in here
    if here[name] != there.get(name)
  ]
  return (
    "INITIAL_CHECKPOINT_ADAPT is for other architectures, other numbers of layers, and experts "
    "that begin as a dense layer; no rule "
    f"covers {'; '.join(differing) or 'this model'}.\n"
    + "\n".join(shortened(wrong))
    + "\nSet these of config.TransformerConfig as in the checkpoint (VOCAB_SIZE may be larger)."
  )


def _widths(shapes: Shapes) -> dict[str, int]:
  """Returns the sizes of a model that its shapes show, by the fields of TransformerConfig."""
  found: dict[str, int] = {}
  for name, shape in shapes.items():
    if name == "token_embed/embedding":
      found["vocab_size"] = shape[0]
    elif name.endswith("/self_attention/query/kernel"):
      found["emb_dim"], found["num_heads"], found["head_dim"] = shape
    elif name.endswith("/self_attention/key/kernel"):
      found["num_kv_heads"] = shape[1]
    elif name.endswith("/mlp/wo/kernel"):
      found["mlp_dim"] = shape[0]
    elif name.endswith("/mlp/experts/wo/kernel"):
      found["the number of experts"], found["the width of experts"] = shape[:2]
  gates = {gate for name in shapes for gate in re.findall(r"/mlp/(?:experts/)?(wi\w*)/", name)}
  found["the number of mlp_activations"] = len(gates)
  return found
