"""Layer-wise learning-rate decay: the further a parameter is from the head, the smaller its rate.

Fine-tuning changes the lowest layers least, because what they learnt in pre-training serves most
tasks (Howard & Ruder 2018, section 3.1; Clark 2020, table 9 of ELECTRA; Bao 2021, BEiT).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5x_style.errors import UserError
from t5x_style.models import TransformerConfig, layer_path
from t5x_style.models.parameter_shapes import abstract_parameters
from t5x_style.models.transfer import path_names

# Modules of the model whose results the first block reads; everything else outside of the stacks
# is a head.
_EMBEDDINGS = (
  *("token_embed", "position_embed", "decoder_position_embed", "type_embed"),
  *("embed_norm", "decoder_embed_norm", "embed_projection"),
)


def with_layer_decay(
  optimizer: optax.GradientTransformation, config: TransformerConfig, decay: float
) -> optax.GradientTransformation:
  """Returns an optimizer whose updates, weight decay included, are scaled by `layer_scales`.

  Its state is that of `optimizer`, so that a run may resume with another decay.
  """
  scales = layer_scales(config, decay)

  def update(updates, state, params=None):
    updates, state = optimizer.update(updates, state, params)
    return jax.tree.map(lambda x, scale: x * scale.astype(x.dtype), updates, scales), state

  return optax.GradientTransformation(optimizer.init, update)


def layer_scales(config: TransformerConfig, decay: float) -> Any:
  """Returns the factor of the learning rate of each parameter, in the tree of the parameters.

  With N layers, it is 1 for the heads, decay ** (N - i) for layer i = 0 ... N - 1 (decay for the
  last one), and decay ** (N + 1) for the embeddings, whose table a tied head shares: as BEiT has
  it. In an encoder-decoder the decoder's layers come after the encoder's. The last norm of a stack
  has the factor of its last layer, a relative bias that of its first.

  Returns:
    float32 arrays of shape [], or [layers, 1, ...] for the parameters of scanned layers.

  Raises:
    UserError: the layers share their parameters, as ALBERT's do.
  """
  if config.share_layers:
    raise UserError(
      f"LAYER_DECAY = {decay}: the layers of this model share their parameters, so they have one "
      "rate; leave LAYER_DECAY at None."
    )
  stacks, top = {}, config.num_encoder_layers + config.num_decoder_layers + 1
  for stack, first, count in (
    ("encoder", 1, config.num_encoder_layers),
    ("decoder", 1 + config.num_encoder_layers, config.num_decoder_layers),
  ):
    stacks[stack] = _depths_of_stack(config, first, count)

  def scale(path, leaf):
    names = path_names(path)
    if names[0] not in stacks:
      depth = 0 if names[0] in _EMBEDDINGS else top
      return jnp.float32(decay ** (top - depth))
    found = next(x for place, x in stacks[names[0]].items() if names[1:][: len(place)] == place)
    if isinstance(found, int):
      return jnp.float32(decay ** (top - found))
    factors = [decay ** (top - depth) for depth in found]
    return jnp.array(factors, jnp.float32).reshape(-1, *[1] * (leaf.ndim - 1))

  return jax.tree_util.tree_map_with_path(scale, abstract_parameters(config))


def _depths_of_stack(
  config: TransformerConfig, first: int, count: int
) -> dict[tuple[str, ...], int | list[int]]:
  """Returns the depth of the parameters at each path of a stack; a list for scanned layers."""
  depths: dict[tuple[str, ...], int | list[int]] = {}
  for layer in range(count):
    path, index = layer_path(config, count, layer)
    if index is None:
      depths[path] = first + layer
    else:
      of_cycles = depths.setdefault(path, [])
      assert isinstance(of_cycles, list) and len(of_cycles) == index
      of_cycles.append(first + layer)
  return depths | {("final_norm",): first + count - 1, ("relative_bias",): first}
