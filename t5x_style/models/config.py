"""One frozen description of a Transformer; BERT, GPT-2, Llama and T5 are values of it."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Interval, MinLen

from t5x_style.architectures import Architecture
from t5x_style.errors import UserError
from t5x_style.models.experts import Experts
from t5x_style.setting_types import (
  DType,
  FractionBelowOne,
  NonNegativeFloat,
  NonNegativeInt,
  OpenFraction,
  PositiveFloat,
  PositiveInt,
)

Remat = Literal["none", "dots", "full"]  # What the backward pass recomputes.
DropoutPlaces = Literal["t5", "bert", "modernbert"]
LayerCount = Annotated[int, Interval(ge=0, le=10_000)]  # Unrolled layers each take time to trace.


@dataclasses.dataclass(frozen=True)
class RotaryScaling:
  """Scaling of rotary positions, for rows `factor` times longer than those of the first training.

  Its kinds, of which rotary_scaling.py computes the frequencies:
    linear: all wavelengths become `factor` times longer (position interpolation, Chen et al. 2023).
    yarn: only wavelengths that fit less than `low` times into `original_length` become so much
      longer. Those that fit more than `high` times do not change; in between, the two are
      interpolated. Attention is sharpened (Peng et al. 2023).
    llama3: as yarn, with another interpolation, and attention as before (Llama 3.1).

  Attributes:
    factor: how many times longer.
    low, high: of yarn and llama3; `high` is 32 for yarn and 4 for llama3 by default.
    original_length: tokens in a row of the first training.
    kind: the computation.
    attention_factor: of yarn: rotated queries and keys are multiplied by it; by default
      0.1 ln(factor) + 1 (Peng et al. 2023, section 3.4).
  """

  factor: PositiveFloat
  low: PositiveFloat = 1.0
  high: PositiveFloat | None = None
  original_length: PositiveInt = 8192
  kind: Literal["llama3", "linear", "yarn"] = "llama3"
  attention_factor: PositiveFloat | None = None

  def __post_init__(self):
    _check_choices(self)
    if self.high is None:
      object.__setattr__(self, "high", 32.0 if self.kind == "yarn" else 4.0)
    assert self.high is not None
    if self.kind != "linear" and not self.low < self.high:
      raise UserError(
        f"RotaryScaling.high = {self.high} must be more than RotaryScaling.low = {self.low}: they "
        "say how many times the longest and the shortest wavelength between them fit into "
        "original_length."
      )
    if self.attention_factor is not None and self.kind != "yarn":
      raise UserError(
        f"RotaryScaling.attention_factor = {self.attention_factor} is of kind 'yarn' only, and "
        f"kind is {self.kind!r}; set it to None."
      )


# Metadata of fields that do not change the function a trained model computes: see `fields_about`.
_TRAINING = {"role": "training"}
_NUMERICS = {"role": "numerics"}
_COMPILATION = {"role": "compilation"}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """The shape of a model. Which stacks have layers decides its architecture.

  Names are T5X's where T5X has one. All sizes count units, not bytes. Fields with metadata do not
  change the function that a trained model computes; `fields_about` finds them.
  """

  # Sizes.
  vocab_size: PositiveInt  # V: rows of the embedding.
  emb_dim: PositiveInt  # D: the width of the model.
  num_heads: PositiveInt  # N: query heads of a layer.
  head_dim: PositiveInt  # H: the width of a head; N * H need not be D.
  mlp_dim: PositiveInt  # F: the width inside the feed-forward layers.
  num_encoder_layers: LayerCount = 0  # 0: the model has no encoder.
  num_decoder_layers: LayerCount = 0  # 0: the model has no decoder.
  num_kv_heads: PositiveInt | None = None  # None: the same as num_heads (no grouping).

  # Blocks. One activation is a plain MLP; two multiply into a gated one (Shazeer 2020).
  mlp_activations: Annotated[tuple[str, ...], MinLen(1)] = ("gelu", "linear")
  experts: Experts | None = None  # Feed-forward layers that are mixtures of experts.
  norm: Literal["rms", "layer"] = "rms"  # "layer" also subtracts the mean, and has a bias.
  norm_position: Literal["pre", "post"] = "pre"  # Before each branch, or after its sum (BERT).
  first_attention_norm: bool = True  # ModernBERT's first layer has none: its input is normalised.
  norm_epsilon: OpenFraction = 1e-6  # Added to the variance.
  use_bias: bool = False  # Of dense layers.
  dropout_rate: FractionBelowOne = dataclasses.field(default=0.0, metadata=_TRAINING)
  # Where dropout_rate applies. "t5": on embeddings, on each branch, inside the MLP and after the
  # last block, with one mask for all positions of a row. "bert": on embeddings and on each branch.
  # "modernbert": on the branches of attention only. Both draw each element on its own. Inside
  # experts there is Experts.dropout_rate.
  dropout_places: DropoutPlaces = dataclasses.field(default="t5", metadata=_TRAINING)
  # Of attention weights, after the softmax. With the places of "t5" all queries share a mask.
  attention_dropout_rate: FractionBelowOne = dataclasses.field(default=0.0, metadata=_TRAINING)
  share_layers: bool = False  # ALBERT: the layers of one cycle are applied repeatedly.

  # Attention. T5 does not scale the logits; its query kernels start small instead.
  scale_attention: bool = True
  qk_norm: bool = False  # Queries and keys are normalised in each head (Qwen3).
  # "relative": T5's biases by distance; "rotary": Llama's; "learned": BERT's and GPT-2's table.
  positions: Literal["relative", "rotary", "learned"] = "relative"
  max_length: PositiveInt = 512  # Tokens per row with learned positions; others have no limit.
  # Unused rows before the learned positions: 2 in BART and RoBERTa.
  position_offset: NonNegativeInt = 0
  positions_skip_padding: bool = False  # RoBERTa: positions count real tokens only.
  relative_buckets: PositiveInt = 32  # Distances in a bucket share a bias.
  relative_max_distance: PositiveInt = 128  # Tokens; all that are farther share a bucket.
  rotary_base: PositiveFloat = 10_000.0  # The longest wavelength is about 2 pi times it, in tokens.
  rotary_scaling: RotaryScaling | None = None  # For rows longer than those of the first training.
  # How many tokens a layer sees to either side, in a cycle over the layers; None is the whole row.
  # ModernBERT has (None, 64, 64): the first and then every third layer see the whole row.
  attention_windows: tuple[PositiveInt | None, ...] = (None,)
  rotary_base_local: PositiveFloat | None = None  # Of layers with a window; None: rotary_base.
  # Attention logits become cap * tanh(logits / cap): Gemma 2.
  attention_soft_cap: PositiveFloat | None = None

  # Embeddings and the head.
  # The id that an encoder does not see in rows without segment ids; -1: no id is padding.
  padding_id: Annotated[int, Ge(-1)] = 0
  factorized_dim: PositiveInt | None = None  # ALBERT: tables of this width, projected to emb_dim.
  num_token_types: NonNegativeInt = 0
  embedding_norm: bool = False  # BERT normalises the sum of its embeddings.
  tie_embeddings: bool = True  # The head uses the table of the embedding.
  scale_logits: bool = True  # Tied heads only: hidden / sqrt(D), as in T5.
  head_transform: bool = False  # BERT's dense + activation + norm before the head.
  head_bias: bool = False  # A bias for each token of the vocabulary.
  logit_soft_cap: PositiveFloat | None = None  # Of the head, as attention_soft_cap: Gemma 2.
  pooled_classes: NonNegativeInt = 0  # Classes of the head on the first token: of pairs or texts.

  # Standard deviations of initial values; None is 1/sqrt(fan in).
  kernel_init_std: NonNegativeFloat | None = dataclasses.field(default=None, metadata=_TRAINING)
  embedding_init_std: NonNegativeFloat = dataclasses.field(default=1.0, metadata=_TRAINING)
  # Values further from 0 than this many of these deviations are drawn again, as truncated_normal of
  # TensorFlow and PyTorch does: with 2 what remains has a deviation of 0.88 of the given one. None
  # keeps them all. Kernels without kernel_init_std are cut anyway, and corrected for it.
  init_cutoff: PositiveFloat | None = dataclasses.field(default=None, metadata=_TRAINING)
  # Kernels that end a residual branch start with their deviation divided by sqrt(N), N branches in
  # their stack: two in a layer, three with cross-attention (GPT-2, section 2.3).
  scale_residual_init: bool = dataclasses.field(default=False, metadata=_TRAINING)

  # The model whose hyperparameters this one trains with (t5x_style.models.transfer): its emb_dim,
  # its head_dim, and the layers of each of its stacks; None is this model's own number.
  base_emb_dim: PositiveInt | None = None  # A tied head also scales its input by it.
  base_head_dim: PositiveInt | None = dataclasses.field(default=None, metadata=_TRAINING)
  base_layers: PositiveInt | None = dataclasses.field(default=None, metadata=_TRAINING)

  # Numerics and compilation.
  dtype: DType = dataclasses.field(default="float32", metadata=_NUMERICS)  # of activations, matmuls
  param_dtype: DType = dataclasses.field(default="float32", metadata=_NUMERICS)
  # Dense layers multiply in 8 bits; the products of attention weights and the head use dtype.
  fp8: bool = dataclasses.field(default=False, metadata=_NUMERICS)
  scan_layers: bool = dataclasses.field(default=True, metadata=_NUMERICS)
  remat: Remat = dataclasses.field(default="none", metadata=_COMPILATION)
  # The kernel that computes attention; "auto" selects the fastest that can.
  attention: Literal[
    "auto", "xla", "cudnn", "tokamax", "splash", "short", "long", "blocked", "ring"
  ] = dataclasses.field(default="auto", metadata=_COMPILATION)

  def __post_init__(self):
    for name in ("mlp_activations", "attention_windows"):
      if isinstance(getattr(self, name), list):  # Configurations must be hashable.
        object.__setattr__(self, name, tuple(getattr(self, name)))
    _check_choices(self)
    self._check_sizes()
    self._check_options()
    self._check_scaling()
    self._check_windows()
    self._check_layers()
    if self.experts is not None:
      self.experts.check(dataclasses.asdict(self))

  def _check_sizes(self):
    for name in ("vocab_size", "emb_dim", "num_heads", "head_dim", "mlp_dim"):
      value = getattr(self, name)
      if not isinstance(value, int) or value < 1:
        raise UserError(f"TransformerConfig.{name} = {value!r} must be a positive integer.")
    for name in ("dropout_rate", "attention_dropout_rate"):
      rate = getattr(self, name)
      if not 0 <= rate < 1:
        raise UserError(
          f"TransformerConfig.{name} = {rate} must lie in [0, 1); set {name.upper()}."
        )
    if self.num_encoder_layers < 1 and self.num_decoder_layers < 1:
      raise UserError(
        "TransformerConfig has no layers: set num_encoder_layers (encoder-only), "
        "num_decoder_layers (decoder-only), or both (encoder-decoder)."
      )
    if self.kv_heads < 1 or self.num_heads % self.kv_heads:
      raise UserError(
        f"TransformerConfig.num_kv_heads = {self.kv_heads} must divide num_heads = "
        f"{self.num_heads}: every group of query heads shares one key head."
      )

  def _check_options(self):
    if self.fp8 and self.dtype != "bfloat16":
      raise UserError(
        f"FP8 = True with DTYPE = {self.dtype!r}: what is not multiplied in 8 bits is computed in "
        'bfloat16; set DTYPE = "bfloat16".'
      )
    if self.positions == "rotary" and self.head_dim % 2:
      raise UserError(f"Rotary positions rotate pairs: head_dim = {self.head_dim} must be even.")
    if self.positions_skip_padding and not (self.positions == "learned" and self.position_offset):
      raise UserError(
        f"TransformerConfig.positions_skip_padding puts padding before the learned positions: "
        f"positions = {self.positions!r} with position_offset = {self.position_offset} have no row "
        "for it."
      )
    if self.factorized_dim is not None and self.tie_embeddings and not self.head_transform:
      raise UserError(
        f"TransformerConfig.factorized_dim = {self.factorized_dim}: a tied head needs "
        "head_transform = True to come back to that width from emb_dim."
      )

  def _check_scaling(self):
    if self.rotary_scaling is None or self.positions == "rotary":
      return
    reasons = {
      "learned": f"learned positions exist for max_length = {self.max_length} tokens, and rows "
      "cannot become longer",
      "relative": "relative positions have no limit, so only TASK_FEATURE_LENGTHS has to be set",
    }
    raise UserError(
      f"TransformerConfig.rotary_scaling is set, but positions = {self.positions!r}: "
      f"{reasons[self.positions]}. Set rotary_scaling = None, or use a model with rotary positions."
    )

  def _check_windows(self):
    windows = self.attention_windows
    if not isinstance(windows, tuple) or not windows:
      raise UserError(
        f"TransformerConfig.attention_windows = {windows!r} must be a tuple with one entry per "
        "layer of the cycle, e.g. (None,) or (None, 64, 64)."
      )
    for window in windows:
      if window is not None and (not isinstance(window, int) or window < 1):
        raise UserError(
          f"TransformerConfig.attention_windows = {windows!r} holds {window!r}: a window is a "
          "positive number of tokens to either side, None where a layer sees the whole row."
        )

  def _check_layers(self):
    windows = self.attention_windows
    if self.share_layers:
      if not self.first_attention_norm:
        raise UserError(
          "TransformerConfig.share_layers needs layers that are alike: set first_attention_norm."
        )
      for layers in (self.num_encoder_layers, self.num_decoder_layers):
        if layers % len(windows):
          raise UserError(
            f"TransformerConfig.share_layers repeats whole cycles: {layers} layers do not divide "
            f"by the {len(windows)} of attention_windows = {windows}."
          )
    others = {self.num_encoder_layers, self.num_decoder_layers} - {0, self.base_layers}
    if (
      self.base_layers is not None
      and others
      and (self.share_layers or self.norm_position == "post")
    ):
      kind = "layers that share their parameters" if self.share_layers else "norms after them"
      raise UserError(
        f"BASE_LAYERS = {self.base_layers}: no rule is known that carries hyperparameters over to "
        f"another number of layers with {kind}; leave it at None."
      )
    if not self.first_attention_norm and self.norm_position != "pre":
      raise UserError(
        "TransformerConfig.first_attention_norm = False leaves out a norm before a layer; "
        f"norm_position = {self.norm_position!r} has none there."
      )

  @property
  def layer_cycle(self) -> int:
    """After how many layers their kinds repeat: windows of attention, dense or with experts."""
    return math.lcm(len(self.attention_windows), self.experts.every if self.experts else 1)

  def has_experts(self, layer: int) -> bool:
    """Returns whether a layer, counted from 0, is a mixture of experts."""
    return self.experts is not None and (layer + 1) % self.experts.every == 0

  @property
  def architecture(self) -> Architecture:
    """Returns which sides the model has."""
    if self.num_encoder_layers and self.num_decoder_layers:
      return "encoder_decoder"
    return "encoder_only" if self.num_encoder_layers else "decoder_only"

  @property
  def table_dim(self) -> int:
    """The width of the embedding tables and of a tied head's inputs."""
    return self.emb_dim if self.factorized_dim is None else self.factorized_dim

  @property
  def width_ratio(self) -> float:
    """How many times wider the model is than the one whose hyperparameters it has."""
    return self.emb_dim / (self.base_emb_dim or self.emb_dim)

  @property
  def tied_logit_factor(self) -> float:
    """What a tied head multiplies its inputs by, in addition to the 1/sqrt(D) of scale_logits.

    One table cannot have the initial values both of an embedding and of a wide model's head: the
    factor base_emb_dim / D is in the model (Yang et al. 2022, table 8). It is 1 at the base width,
    and where the width of the table does not change.
    """
    if not self.tie_embeddings:
      return 1.0
    wanted = 1.0 if self.factorized_dim is not None else 1 / self.width_ratio
    return wanted * self.width_ratio**0.5 if self.scale_logits else wanted

  @property
  def kv_heads(self) -> int:
    """The number of key and value heads K."""
    return self.num_heads if self.num_kv_heads is None else self.num_kv_heads


def _check_choices(config: "RotaryScaling | TransformerConfig") -> None:
  """Raises UserError for a value that is not one of the choices of its field."""
  kind = type(config)
  for name, annotation in get_type_hints(kind).items():
    choices, value = get_args(annotation), getattr(config, name)
    if get_origin(annotation) is Literal and value not in choices:
      raise UserError(
        f"{kind.__name__}.{name} = {value!r} is not one of {', '.join(map(repr, choices))}."
      )


def config_of_json(values: Mapping[str, Any], where: str) -> TransformerConfig:
  """Returns the model that JSON describes; fields that are newer than it have their defaults.

  Args:
    values: {field: value}, as the identity of a run holds them.
    where: the checkpoint, for the message.

  Raises:
    UserError: it has settings that this version does not know.
  """
  known = {field.name for field in dataclasses.fields(TransformerConfig)}
  if unknown := sorted(values.keys() - known):
    raise UserError(
      f"The model in {where!r} has settings that this version of the package does not know: "
      f"{', '.join(unknown)}. Use the version that trained it, or a later one."
    )
  fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
  if scaling := fields.get("rotary_scaling"):
    fields["rotary_scaling"] = RotaryScaling(**scaling)
  if experts := fields.get("experts"):
    fields["experts"] = Experts(**experts)
  return TransformerConfig(**fields)


def fields_about(*roles: str) -> frozenset[str]:
  """Returns the names of the fields of TransformerConfig that have one of the roles.

  Args:
    roles: "training" (dropout and initial values), "numerics" (changes rounding or how parameters
      are stored, not the function) or "compilation" (changes speed and memory only).
  """
  return frozenset(
    field.name
    for field in dataclasses.fields(TransformerConfig)
    if field.metadata.get("role") in roles
  )
