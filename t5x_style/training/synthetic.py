"""Random batches of any shape, for benchmarks and for machines without TensorFlow."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from t5x_style.architectures import predicted_side
from t5x_style.errors import UserError
from t5x_style.setting_types import OpenFraction, PositiveInt
from t5x_style.training.dataset import Batch

_MASKED_SHARE = 0.15


class SyntheticDataset:
  """Uniform random tokens in the features of an architecture; batch n is a function of (seed, n).

  It has the attributes of `t5x_style.training.dataset.Dataset`.
  """

  token_bytes = None
  special_ids = (0, 1, 0)
  component_names = label_names = ()
  exact_match = False

  def __init__(
    self, architecture, batch_size, seed, index, count, feature_lengths, vocab_size, density
  ):
    self.vocab_size = vocab_size
    self._rows = range(index * batch_size // count, (index + 1) * batch_size // count)
    self._seed, self._density = seed, density
    inputs, targets = feature_lengths.get("inputs"), feature_lengths.get("targets")
    tokens, self.max_targets = {}, None
    if architecture != "decoder_only":
      tokens["encoder_input_tokens"] = inputs
    if architecture == "encoder_only":
      tokens["encoder_target_tokens"] = inputs
      self.max_targets = max(1, round(density * inputs))
    else:
      tokens["decoder_input_tokens"] = tokens["decoder_target_tokens"] = targets
    missing = [name for name, length in tokens.items() if not length]
    if missing:
      raise UserError(
        f"TASK_FEATURE_LENGTHS = {dict(feature_lengths)} gives no length for {missing[0]}; write "
        "e.g. {'inputs': 512, 'targets': 114} (only 'targets' for a decoder-only model)."
      )
    side = predicted_side(architecture)
    weights = f"{side}_loss_weights"
    self.feature_shapes = {
      name: jax.ShapeDtypeStruct((batch_size, length), np.int32) for name, length in tokens.items()
    }
    self.feature_shapes[weights] = jax.ShapeDtypeStruct(
      self.feature_shapes[f"{side}_target_tokens"].shape, np.float32
    )

  def batch(self, number: int) -> Batch:
    """Returns this process' rows of batch `number`, which does not depend on the processes."""
    features, before = {}, 0
    for name, feature in self.feature_shapes.items():
      (rows, length), dtype = feature.shape, feature.dtype
      # Each position is one draw, so the generator can skip to the first row of this process.
      bits = np.random.PCG64((self._seed, number)).advance(before + self._rows.start * length)
      before += rows * length
      draw = np.random.Generator(bits).random((len(self._rows), length))
      if dtype != np.float32:
        features[name] = 1 + (draw * (self.vocab_size - 1)).astype(dtype)
      elif self.max_targets is None:
        features[name] = np.ones(draw.shape, dtype)
      else:
        features[name] = (np.argsort(draw, axis=1) < self.max_targets).astype(dtype)
    return features

  def train(self) -> "SyntheticIterator":
    return SyntheticIterator(self)

  def evaluation(self, max_batches: int) -> Iterable[Batch]:
    # The numbers count down from the largest one, which training never reaches.
    return [self.batch(2**31 - 1 - number) for number in range(max_batches)]

  def decode(self, ids: Any) -> str:
    return " ".join(map(str, ids))

  @property
  def description(self) -> str:
    return "random tokens"

  def identity(self) -> dict[str, Any]:
    shapes = {name: list(x.shape) for name, x in self.feature_shapes.items()}
    found = {"synthetic": shapes, "vocab_size": self.vocab_size, "seed": self._seed}
    if self.max_targets is not None and self._density != _MASKED_SHARE:
      found["masked_share"] = self._density
    return found

  def files(self) -> dict[str, list]:
    return {}


class SyntheticIterator:
  """Counts the batches; the count is its whole state."""

  def __init__(self, dataset: SyntheticDataset):
    self._dataset, self._next = dataset, 0

  def __next__(self) -> Batch:
    self._next += 1
    return self._dataset.batch(self._next - 1)

  def epochs(self) -> dict[str, float]:
    return {}

  def skipped(self) -> str:
    return ""

  def get_state(self) -> dict[str, bytes]:
    return {"stream_00000": json.dumps(self._next).encode()}

  def set_state(self, state: Mapping[str, bytes]) -> None:
    self._next = json.loads(state["stream_00000"])


def load(
  architecture: str,
  batch_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
  *,
  feature_lengths: Mapping[str, PositiveInt],
  vocab_size: PositiveInt,
  masked_share: OpenFraction = _MASKED_SHARE,
) -> SyntheticDataset:
  """Opens random batches; a function for `TrainConfig.dataset`.

  Args:
    feature_lengths: tokens per row, "inputs" and "targets" as in TASK_FEATURE_LENGTHS.
    masked_share: for encoder-only models, the share of positions that carry loss.
  """
  return SyntheticDataset(
    architecture,
    batch_size,
    seed,
    process_index,
    process_count,
    feature_lengths,
    vocab_size,
    masked_share,
  )
