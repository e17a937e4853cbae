"""From a budget of FLOPs to a run: the size of the model, the batch, the steps and the rate.

Everything else of the model stays: its kind of layers, the width of its heads, and how wide its
feed-forward layers are for its width. A wider or deeper model trains with the rate of the base size
(t5x_style.models.transfer), so one rate serves all sizes.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax

from t5x_style.errors import UserError
from t5x_style.models import TransformerConfig
from t5x_style.models.parameter_shapes import abstract_parameters
from t5x_style.planning import size_laws
from t5x_style.setting_types import PositiveFloat
from t5x_style.training import flops

_WIDTHS = (
  *(32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 2048),
  *(2560, 3072, 4096, 5120, 6144, 8192),
)
_WIDTH_OF_LAYER = 128  # a model of width 1024 has 8 layers in each stack
_WIDTH_UNIT = 8  # Widths of a model's own series are multiples of it.
_WIDEST_OF_TWO_LAYERS = 512  # of models that do not become deeper
LEAST_STEPS = 20
_WARMUP_SHARE = 10  # a tenth of the steps warms up


@dataclasses.dataclass(frozen=True)
class Budget:
  """What a run may take, if the size of its model follows from it; one of the two or neither.

  Attributes:
    minutes: of this machine, for the whole run.
    flops: of all training steps.
  """

  minutes: PositiveFloat | None = None
  flops: PositiveFloat | None = None

  def __post_init__(self):
    if self.minutes and self.flops:
      raise UserError(
        f"MINUTES = {self.minutes:g} and FLOPS = {self.flops:g} are both set: each of them decides "
        "how large the run is. Set one to None."
      )

  def __str__(self):
    if self.minutes:
      return f"MINUTES = {self.minutes:g}"
    return f"FLOPS = {self.flops:g}" if self.flops else ""


class TooSmall(UserError):
  """A budget that is too small for any model."""


class Rows(NamedTuple):
  """The data that a run reads.

  Attributes:
    lengths: {"encoder_length": tokens, "decoder_length": tokens} of those that a row has.
    target_positions: positions of a row that reach the head; None: all.
    text: tokens of the corpus; None: not known.
    multiple: rows of a batch are a multiple of it.
  """

  lengths: Mapping[str, int]
  target_positions: int | None
  text: float | None = None
  multiple: int = 1

  @property
  def tokens(self) -> int:
    """Tokens of a row."""
    return sum(self.lengths.values())


@dataclasses.dataclass(frozen=True)
class Run:
  """What a budget is spent on.

  Attributes:
    parameters: of the layers that a token passes; the vocabulary's are not among them.
    tokens: that the run reads, padding too.
    step_flops: FLOPs of a step.
  """

  model: TransformerConfig
  batch_size: int
  train_steps: int
  rate: float
  parameters: float
  tokens: float
  step_flops: float

  @property
  def warmup_steps(self) -> int:
    return max(1, self.train_steps // _WARMUP_SHARE)


def choose(
  model: TransformerConfig,
  objective: str,
  rows: Rows,
  budget: float,
  most_parameters: float = math.inf,
) -> Run:
  """Returns the run for which the law of its objective promises the lowest loss.

  Args:
    model: the model that is made wider or narrower, deeper or shallower.
    objective: a name of size_laws.LAWS.
    budget: FLOPs.
    most_parameters: of the model with its embeddings, that memory allows.

  Raises:
    TooSmall: the budget is too small for any model.
    UserError: this kind of model cannot be sized, or not for so large a budget.
  """
  found = [plan(sized, objective, rows, budget) for sized in sizes(model)]
  long = [run for run in found if run.train_steps >= LEAST_STEPS]
  if not long:
    need = min(LEAST_STEPS * run.step_flops for run in found)
    raise TooSmall(
      f"{budget:.2g} FLOPs are not enough: {LEAST_STEPS} steps of the smallest model take "
      f"{need:.2g}. Set a larger budget, or shorter rows (TASK_FEATURE_LENGTHS)."
    )
  long.sort(
    key=lambda run: size_laws.reducible_loss(run.parameters, size_laws.worth(run.tokens, rows.text))
  )
  fitting = (run for run in long if stored(run.model) <= most_parameters)
  best = next(fitting, min(long, key=lambda run: run.model.emb_dim))
  if _keeps_two_layers(model) and best.model.emb_dim > _WIDEST_OF_TWO_LAYERS:
    raise UserError(
      f"For {budget:.2g} FLOPs a model of width {best.model.emb_dim} is the best, but models with "
      "norm_position = 'post' or share_layers = True are sized only up to width "
      f"{_WIDEST_OF_TWO_LAYERS}: no learning rate is known for more than two of their layers. Set "
      "the size, TRAIN_STEPS and PEAK_LEARNING_RATE yourself, or a smaller budget."
    )
  return best


def plan(model: TransformerConfig, objective: str, rows: Rows, budget: float) -> Run:
  """Returns the run of one model that takes the budget: its batch, its steps and its rate.

  Args:
    model: of the size that is trained; objective, budget: as of `choose`.
  """
  law = size_laws.LAWS[objective]
  row = _row_flops(model, rows)
  tokens = budget / row * rows.tokens
  wanted = law.batch_tokens(tokens) / rows.tokens
  size = 2 ** max(0, round(math.log2(wanted)))
  size = -(-size // rows.multiple) * rows.multiple
  return Run(
    model,
    batch_size=size,
    train_steps=round(budget / (row * size)),
    rate=float(f"{law.peak_rate(tokens):.3g}"),
    parameters=parameters(model, rows),
    tokens=tokens,
    step_flops=row * size,
  )


def _row_flops(model: TransformerConfig, rows: Rows) -> float:
  return flops.step_flops(model, 1, target_positions=rows.target_positions, **rows.lengths)


def parameters(model: TransformerConfig, rows: Rows) -> float:
  """Returns the parameters of the layers that a token passes, counted by their FLOPs.

  A parameter takes 6 FLOPs for a token; so the products of queries and keys count, too (as in
  DeepSeek-AI 2024, arXiv 2401.02954, section 3.2).
  """
  layers = flops.step_flops(model, 1, target_positions=0, **rows.lengths)
  return layers / (6 * rows.tokens)


def sizes(model: TransformerConfig) -> Iterator[TransformerConfig]:
  """Yields the model in all sizes that may be chosen, from the smallest.

  Its widths are those of a table that make whole heads, and its own width, halved and doubled.

  Raises:
    UserError: this kind of model cannot be sized.
  """
  if model.experts is not None:
    raise UserError(
      "MINUTES and FLOPS choose sizes of dense models, and this one has experts; leave them out."
    )
  for width in _widths(model):
    yield resized(model, width)


def base_size(model: TransformerConfig) -> TransformerConfig:
  """Returns the model in the size that is the nearest to that of the measured models."""
  return min(sizes(model), key=lambda sized: abs(math.log(sized.emb_dim / size_laws.BASE_EMB_DIM)))


def stored(model: TransformerConfig) -> int:
  """Returns the parameters of a model, those of its embeddings and its head included."""
  return sum(x.size for x in jax.tree.leaves(abstract_parameters(model)))


def _widths(model: TransformerConfig) -> list[int]:
  own = {model.emb_dim}
  width = model.emb_dim
  while width % 2 == 0 and width // 2 % _WIDTH_UNIT == 0 and width > _WIDTHS[0]:
    width //= 2
    own.add(width)
  width = model.emb_dim
  while 2 * width <= _WIDTHS[-1]:
    width *= 2
    own.add(width)
  return [
    width for width in sorted(own | set(_WIDTHS)) if model.num_heads * width % model.emb_dim == 0
  ]


def resized(model: TransformerConfig, width: int) -> TransformerConfig:
  """Returns a model with another width, and heads and layers for it.

  Its learning rate is that of the base size.
  """
  heads = model.num_heads * width // model.emb_dim
  layers = max(size_laws.BASE_LAYERS, round(width / _WIDTH_OF_LAYER))
  deeper = layers != size_laws.BASE_LAYERS
  if deeper and _keeps_two_layers(model):
    layers, deeper = size_laws.BASE_LAYERS, False  # No rate is known for more of such layers.
  return dataclasses.replace(
    model,
    emb_dim=width,
    num_heads=heads,
    num_kv_heads=_key_heads(heads, model),
    mlp_dim=max(8, round(model.mlp_dim * width / model.emb_dim / 8) * 8),
    num_encoder_layers=layers if model.num_encoder_layers else 0,
    num_decoder_layers=layers if model.num_decoder_layers else 0,
    base_emb_dim=size_laws.BASE_EMB_DIM,
    base_head_dim=None,
    base_layers=size_laws.BASE_LAYERS if deeper else None,
  )


def _keeps_two_layers(model: TransformerConfig) -> bool:
  """Returns whether rates of this kind of model do not transfer to more layers."""
  return model.share_layers or model.norm_position == "post"


def _key_heads(heads: int, model: TransformerConfig) -> int:
  """Returns the most heads of keys that divide the heads and are no larger share of them."""
  most = max(1, heads * model.kv_heads // model.num_heads)
  return max(count for count in range(1, most + 1) if heads % count == 0)
