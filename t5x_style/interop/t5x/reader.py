"""Reads T5X's T5 checkpoints (T5 1.0, T5 1.1, mT5, ByT5) under this package's parameter names.

It knows T5X's minimal and scalable networks (examples/t5, examples/scalable_t5) and the scanned
layers of flaxformer. As in this package with `scale_attention = False`, the weights of the queries
contain the 1/sqrt(head width) of the attention; a tied head divides by sqrt(width).
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from t5x_style.checkpoints.arrays import LazyArray
from t5x_style.checkpoints.warm_start import Reader
from t5x_style.errors import UserError
from t5x_style.interop.t5x import checkpoint_files
from t5x_style.models import TransformerConfig

_WHOLE = {
  "token_embedder/embedding": "token_embed/embedding",
  "encoder/relpos_bias/rel_embedding": "encoder/relative_bias/embedding",
  "decoder/relpos_bias/rel_embedding": "decoder/relative_bias/embedding",
  "encoder/encoder_norm/scale": "encoder/final_norm/scale",
  "decoder/decoder_norm/scale": "decoder/final_norm/scale",
  "decoder/logits_dense/kernel": "head/kernel",
}
_MODULES = {
  "attention": "self_attention",
  "self_attention": "self_attention",
  "encoder_decoder_attention": "cross_attention",
  "pre_attention_layer_norm": "self_attention_norm",
  "pre_self_attention_layer_norm": "self_attention_norm",
  "pre_cross_attention_layer_norm": "cross_attention_norm",
  "pre_mlp_layer_norm": "mlp_norm",
  "mlp": "mlp",
}
_LAYER = re.compile(r"(encoder|decoder)/layers_(\d+)/([^/]+)/(.+)")
# encoder/layers/... in T5X's scalable network, encoder/encoder/... in flaxformer's.
_SCANNED = re.compile(r"(encoder|decoder)/(?:layers|encoder|decoder)/([^/]+)/(.+)")
_EACH_LAYERS_BIAS = re.compile(
  r"(encoder|decoder)/[^/]+/(relative_posemb|relpos_bias)/rel_embedding"
)
# Settings that the parameters were trained with and do not show.
_CONVENTIONS = {
  "norm": "rms",
  "norm_position": "pre",
  "positions": "relative",
  "scale_attention": False,
  "use_bias": False,
}


def read(
  path: str, config: TransformerConfig, wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, LazyArray] | None:
  """Opens the parameters of a T5X checkpoint: `read` of a `warm_start.Reader`.

  Args:
    path: a T5X model folder, a checkpoint_N of it, or the file `checkpoint` in that; local or gs://.
    config: of the model that is to have the parameters.
    wanted: {name: shape} of its parameters with unrolled layers.

  Returns:
    {name: array}; parameters that this package's models lack keep T5X's name. None where `path` is
    not one of T5X's.

  Raises:
    UserError: the configured model computes something else with these parameters.
  """
  folder = checkpoint_files.find(path)
  if folder is None:
    return None
  found = checkpoint_files.arrays(folder)
  _check_conventions(path, config)
  each = [name for name in found if _EACH_LAYERS_BIAS.fullmatch(name)]
  if each:
    raise UserError(
      f"INITIAL_CHECKPOINT_PATH = {path!r} has a relative position bias in every layer ({each[0]}, "
      "as umT5 and T5X's scalable example have); this package's models share one among the layers."
    )
  result: dict[str, LazyArray] = {}
  for name, array in found.items():
    for new_name, part in _renamed(name, array, config, wanted):
      shape = wanted.get(new_name)
      # T5X may have one axis for heads and head width.
      fits = shape is not None and math.prod(part.shape) == math.prod(shape)
      result[new_name] = part.reshape(shape) if fits and shape != part.shape else part
  return result


def own_name(name: str) -> str | None:
  """Returns this package's name of a parameter of T5X that no scanned layers hold, else None.

  "encoder/layers_0/attention/query/kernel" is "encoder/layers_0/self_attention/query/kernel" here.
  """
  if name in _WHOLE:
    return _WHOLE[name]
  if layer := _LAYER.fullmatch(name):
    stack, i, module, rest = layer.groups()
    return f"{stack}/layers_{i}/{_MODULES.get(module, module)}/{rest}"
  return None


def _renamed(name, array, config, wanted):
  """Yields (this package's name, array) of each layer that a parameter of T5X holds."""
  if (own := own_name(name)) is not None:
    yield own, array
  elif scanned := _SCANNED.fullmatch(name):
    stack, module, rest = scanned.groups()
    new_name = f"{stack}/layers_{{}}/{_MODULES.get(module, module)}/{rest}"
    layers = getattr(config, f"num_{stack}_layers")
    axis = _layer_axis(array.shape, layers, wanted.get(new_name.format(0)))
    if axis is None:
      yield name, array
    else:
      yield from ((new_name.format(i), array.layer(i, axis)) for i in range(layers))
  else:
    yield name, array


def _layer_axis(shape, layers, wanted):
  """Returns the axis along which layers are stacked (T5X's default is 1), or None."""
  for axis in (1, 0):
    rest = shape[:axis] + shape[axis + 1 :]
    if (
      axis < len(shape)
      and shape[axis] == layers
      and wanted
      and math.prod(rest) == math.prod(wanted)
    ):
      return axis
  return None


def _check_conventions(path: str, config: TransformerConfig) -> None:
  conventions = _CONVENTIONS | ({"scale_logits": True} if config.tie_embeddings else {})
  if config.tied_logit_factor != 1:
    conventions |= {"base_emb_dim": None}
  wrong = {key: value for key, value in conventions.items() if getattr(config, key) != value}
  if wrong:
    settings = ", ".join(f"{key} = {value!r}" for key, value in wrong.items())
    raise UserError(
      f"INITIAL_CHECKPOINT_PATH = {path!r} is a T5X checkpoint, which was trained with {settings}; "
      "set these of config.TransformerConfig."
    )


def stored_model(path: str, config: TransformerConfig) -> TransformerConfig | None:
  """Returns the model of a T5X checkpoint: `stored_model` of a `warm_start.Reader`.

  The numbers of layers and whether the head is tied are counted in the checkpoint, and the
  conventions are T5X's; all other values are those of `config`.
  """
  folder = checkpoint_files.find(path)
  if folder is None:
    return None
  found = checkpoint_files.arrays(folder)
  tied = not any(_WHOLE.get(name) == "head/kernel" for name in found)
  fields: dict[str, Any] = {
    **_CONVENTIONS,
    "num_encoder_layers": _count_layers(found, "encoder", config),
    "num_decoder_layers": _count_layers(found, "decoder", config),
    "tie_embeddings": tied,
    "scale_logits": tied or config.scale_logits,
    "base_emb_dim": None,
  }
  return dataclasses.replace(config, **fields)


def _count_layers(found: Mapping[str, LazyArray], side: str, config: TransformerConfig) -> int:
  """Returns the number of layers of one side of a checkpoint, 0 if it lacks the side."""
  numbers = [int(x[2]) for name in found if (x := _LAYER.fullmatch(name)) and x[1] == side]
  if numbers:
    return max(numbers) + 1
  for name, array in found.items():
    scanned = _SCANNED.fullmatch(name)
    if scanned and scanned[1] == side and scanned[3] == "scale":
      rows, columns = array.shape
      return columns if rows == config.emb_dim else rows
  return 0


READER = Reader(read, stored_model)
