"""Hyperparameters that transfer: how a model's parameters differ from those of its base model.

The base model has the width `base_emb_dim`, heads of `base_head_dim` and `base_layers` layers in
each stack. With the rules of this file the learning rate, the initial deviations and the weight
decay that are the best for it stay about the best for a wider or deeper model. At the base size
nothing changes, to the bit.

Width follows the maximal update parametrization, muP (Yang et al. 2022, "Tensor Programs V", table
3 and definition 4.1): the steps of a matrix that reads the width become smaller with it, attention
is scaled by 1/H, and the head starts smaller. All other widths (of heads together, of the
feed-forward layer) are taken to grow as emb_dim does; the vocabulary, positions, classes and a
factorized table do not. Depth follows CompleteP (Dey et al. 2025, arXiv 2505.01618, table 1,
alpha = 1): a residual branch is multiplied by base_layers / layers.

Where these papers multiply an activation by a constant, the constant is moved here into the kernel
before it: its initial values and its steps are multiplied, which trains the same function (Yang et
al. 2022, lemma J.1). So the model computes what it always does, and exports need nothing new. The
exception is a tied head (TransformerConfig.tied_logit_factor), whose table is an embedding, too.

Adam's eps stays as it is. CompleteP shrinks it with the gradients; at 1e-8 it is far below them in
all but the widest models.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from t5x_style.models.config import TransformerConfig

_TABLES = ("token_embed", "position_embed", "decoder_position_embed", "type_embed")
_HIDDEN = ("query", "key", "value", "out", "wi", "wi_0", "wi_1", "wo", "transform", "dense")
_OUTPUTS = ("head", "classes", "router")  # Their results do not become wider.
_ENDS = ("out", "wo")  # The kernels that end a residual branch.


class Scale(NamedTuple):
  """A parameter, divided by the same parameter of the base model.

  Attributes:
    initial: what its initial values have to be multiplied by: what the initializers of this model
      lack.
    deviation: of its initial values, after that.
    rate: of the size of its updates.
  """

  initial: float
  deviation: float
  rate: float


@dataclasses.dataclass(frozen=True)
class _Ratios:
  """How much larger a model is than its base model, or a stack than the base model's."""

  width: float
  head: float  # of head_dim
  heads: float  # of num_heads
  layers: float


def transfers(config: TransformerConfig) -> bool:
  """Returns whether a model has another size than its base model."""
  stacks = {config.num_encoder_layers, config.num_decoder_layers} - {0}
  return (
    config.base_emb_dim not in (None, config.emb_dim)
    or config.base_head_dim not in (None, config.head_dim)
    or (config.base_layers is not None and stacks != {config.base_layers})
  )


def with_transferred_scale(config: TransformerConfig, params: Any) -> Any:
  """Returns new parameters with the initial deviations that follow from the base model's.

  Args:
    params: the tree as Transformer.init makes it.
  """
  if not transfers(config):
    return params

  def scaled(path, x):
    factor = transferred_scale(config, path_names(path), x.shape).initial
    return x if factor == 1 else x * factor

  return jax.tree_util.tree_map_with_path(scaled, params)


def path_names(path: Sequence[Any]) -> tuple[str, ...]:
  """Returns the names on the way to a leaf of the tree of parameters."""
  return tuple(str(getattr(key, "key", key)) for key in path)


def transferred_scale(
  config: TransformerConfig, names: Sequence[str], shape: Sequence[int]
) -> Scale:
  """Returns how a parameter differs from the base model's.

  Args:
    names: its path in the tree of parameters, such as ("decoder", "layers", "mlp", "wo", "kernel").
    shape: of the parameter.

  Raises:
    NotImplementedError: there is no rule for it.
  """
  *_, module, kind = names
  ratios = _ratios(config, names[0])
  if kind == "bias":
    factor = _multiplier(config, module, ratios)
    return Scale(1.0, factor, factor)  # It starts at zero.
  if kind == "scale":
    factor = _attention_multiplier(config, ratios) if module == "query_norm" else 1.0
    return Scale(factor, factor, factor)
  if kind == "embedding" and module == "relative_bias":  # Its initializer looks at the heads.
    heads, buckets = shape[-2:]
    own = ((heads / ratios.heads + buckets) / (heads + buckets)) ** 0.5
    return Scale(1 / own, 1.0, 1.0)
  if (kind == "embedding" and module in _TABLES) or module == "embed_projection":
    return Scale(1.0, 1.0, 1.0)
  if kind == "kernel" and module in _OUTPUTS:
    return _compared(_initializer(config, ratios), 1 / ratios.width, 1 / ratios.width)
  if kind == "kernel" and module in _HIDDEN:
    factor = _multiplier(config, module, ratios)
    own = _initializer(config, ratios)
    if module == "query" and not config.scale_attention:
      own *= ratios.head**-0.5
    if module in _ENDS and config.scale_residual_init:
      own *= ratios.layers**-0.5
    return _compared(own, ratios.width**-0.5 * factor, factor / ratios.width)
  raise NotImplementedError(f"BASE_EMB_DIM has no rule for the parameter {'/'.join(names)}.")


def _compared(own: float, deviation: float, rate: float) -> Scale:
  """Returns the scale of a parameter whose initializer alone would give it the ratio `own`."""
  return Scale(deviation / own, deviation, rate)


def _initializer(config: TransformerConfig, ratios: _Ratios) -> float:
  """Returns the ratio of deviations that a kernel's initializer gives: see layers.kernel_init."""
  return ratios.width**-0.5 if config.kernel_init_std is None else 1.0


def _multiplier(config: TransformerConfig, module: str, ratios: _Ratios) -> float:
  """Returns the constant that is moved into a kernel and its bias."""
  if module == "query" and not config.qk_norm:
    return _attention_multiplier(config, ratios)
  return 1 / ratios.layers if module in _ENDS else 1.0


def _attention_multiplier(config: TransformerConfig, ratios: _Ratios) -> float:
  """Returns what makes the scale of attention sqrt(base_head_dim) / H (definition 4.1).

  It is 1/sqrt(H) in the model, or 1 in T5's, which then has it in its query kernels' start.
  """
  return ratios.head**-0.5 if config.scale_attention else 1 / ratios.head


def _ratios(config: TransformerConfig, stack: str) -> _Ratios:
  layers = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}.get(stack)
  base, head = config.base_layers, config.head_dim / (config.base_head_dim or config.head_dim)
  return _Ratios(
    width=config.width_ratio,
    head=head,
    heads=config.width_ratio / head,
    layers=1.0 if base is None or layers is None else layers / base,
  )
