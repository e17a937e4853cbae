"""One frozen description of a Transformer; BERT, GPT-2, Llama and T5 are values of it."""

import dataclasses

ARCHITECTURES = ("encoder_decoder", "decoder_only", "encoder_only")

_CHOICES = {
  "norm": ("rms", "layer"),
  "norm_position": ("pre", "post"),
  "positions": ("relative", "rotary", "learned"),
  "remat": ("none", "dots", "full"),
  "attention": ("auto", "xla", "cudnn", "splash"),
}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """The shape of a model. Which stacks have layers decides its architecture.

  Names follow T5X where T5X has one. Every size is a count of units, not bytes.
  """

  # Sizes: vocabulary V, embedding D, query heads N of width H, feed-forward F.
  vocab_size: int
  emb_dim: int
  num_heads: int
  head_dim: int
  mlp_dim: int
  num_encoder_layers: int = 0
  num_decoder_layers: int = 0
  num_kv_heads: int | None = None  # None: as many as num_heads (no grouping).

  # Blocks. One activation is a plain MLP; two multiply into a gated one (Shazeer 2020).
  mlp_activations: tuple[str, ...] = ("gelu", "linear")
  norm: str = "rms"
  norm_position: str = "pre"
  norm_epsilon: float = 1e-6
  use_bias: bool = False
  dropout_rate: float = 0.0

  # Attention. T5 leaves the logits unscaled and starts the queries small instead.
  scale_attention: bool = True
  qk_norm: bool = False
  positions: str = "relative"
  max_length: int = 512  # Rows of the learned position table; other kinds have no limit.
  relative_buckets: int = 32
  relative_max_distance: int = 128
  rotary_base: float = 10_000.0
  # A cycle over the layers: how far each sees to either side; None is everywhere. ModernBERT's
  # (None, 64, 64) has every third layer see the whole row, beginning with the first.
  attention_windows: tuple[int | None, ...] = (None,)
  rotary_base_local: float | None = None  # of layers with a window; None: rotary_base.
  attention_soft_cap: float | None = None  # Logits of attention are bent into (-cap, cap): Gemma 2.

  # Embeddings and the head.
  num_token_types: int = 0
  embedding_norm: bool = False  # BERT normalises the sum of its embeddings.
  tie_embeddings: bool = True
  scale_logits: bool = True  # Tied heads only: hidden / sqrt(D), as T5 does.
  head_transform: bool = False  # BERT's dense + activation + norm before the head.
  head_bias: bool = False
  logit_soft_cap: float | None = None
  pooled_classes: int = 0  # Classes of the sentence-pair head on the first token.

  # Initial values: None is 1/sqrt(fan in) for kernels.
  kernel_init_std: float | None = None
  embedding_init_std: float = 1.0

  # Numerics and compilation.
  dtype: str = "float32"  # Activations and matmuls.
  param_dtype: str = "float32"
  scan_layers: bool = True
  remat: str = "none"
  attention: str = "auto"  # The kernel that computes attention; "auto" takes the fastest that can.

  def __post_init__(self):
    for name, choices in _CHOICES.items():
      value = getattr(self, name)
      if value not in choices:
        raise ValueError(
          f"TransformerConfig.{name} = {value!r} is not one of {', '.join(map(repr, choices))}."
        )
    for name in ("vocab_size", "emb_dim", "num_heads", "head_dim", "mlp_dim"):
      value = getattr(self, name)
      if not isinstance(value, int) or value < 1:
        raise ValueError(f"TransformerConfig.{name} = {value!r} must be a positive integer.")
    if not 0 <= self.dropout_rate < 1:
      raise ValueError(
        f"TransformerConfig.dropout_rate = {self.dropout_rate} must lie in [0, 1); "
        "set DROPOUT_RATE."
      )
    if self.num_encoder_layers < 1 and self.num_decoder_layers < 1:
      raise ValueError(
        "TransformerConfig has no layers: set num_encoder_layers (encoder-only), "
        "num_decoder_layers (decoder-only), or both (encoder-decoder)."
      )
    windows = self.attention_windows
    if not isinstance(windows, tuple) or not windows:
      raise ValueError(
        f"TransformerConfig.attention_windows = {windows!r} must be a tuple with one entry per "
        "layer of the cycle, e.g. (None,) or (None, 64, 64)."
      )
    for window in windows:
      if window is not None and (not isinstance(window, int) or window < 1):
        raise ValueError(
          f"TransformerConfig.attention_windows = {windows!r} holds {window!r}: a window is a "
          "positive number of tokens to either side, None where a layer sees the whole row."
        )
    if self.num_heads % self.kv_heads:
      raise ValueError(
        f"TransformerConfig.num_kv_heads = {self.kv_heads} must divide num_heads = "
        f"{self.num_heads}: every group of query heads shares one key head."
      )
    if self.positions == "rotary" and self.head_dim % 2:
      raise ValueError(f"Rotary positions rotate pairs: head_dim = {self.head_dim} must be even.")

  @property
  def architecture(self) -> str:
    """ "encoder_decoder", "decoder_only" or "encoder_only"."""
    if self.num_encoder_layers and self.num_decoder_layers:
      return "encoder_decoder"
    return "encoder_only" if self.num_encoder_layers else "decoder_only"

  @property
  def kv_heads(self) -> int:
    """The number of key and value heads K."""
    return self.num_heads if self.num_kv_heads is None else self.num_kv_heads
