"""What training needs of a dataset. Nothing here knows where the batches come from."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

Batch = dict[str, np.ndarray]
FeatureShapes = Mapping[str, jax.ShapeDtypeStruct]


class BatchIterator(Protocol):
  """An endless stream of this process' rows of each batch, whose place can be saved."""

  def __next__(self) -> Batch: ...

  def skipped(self) -> str:
    """What of the text was left out or repaired so far, in a line; "" for nothing."""
    ...

  def get_state(self) -> dict[str, bytes]:
    """The place after the last batch handed out: one entry per stream of the data."""
    ...

  def set_state(self, state: Mapping[str, bytes]) -> None: ...


class Dataset(Protocol):
  """Batches for one architecture, as `load` of t5x_style.data.loader builds them."""

  vocab_size: int
  special_ids: tuple[int, int, int]  # of padding (-1: there is none), the end and the start
  feature_shapes: dict[str, jax.ShapeDtypeStruct]  # of the global batch, without shardings
  max_targets: int | None  # positions with loss per row at most, where they are few and static
  token_bytes: np.ndarray | None  # [V] UTF-8 bytes of each id, where bits per byte is defined
  component_names: tuple[str, ...]  # names of the ids in *_component_ids, for a mixture

  def train(self) -> BatchIterator: ...

  def evaluation(self, max_batches: int) -> Iterable[Batch]:
    """The first batches of the held-out split: the same every time it is called."""
    ...

  def decode(self, ids: Any) -> str: ...

  def identity(self) -> dict[str, Any]:
    """JSON that is equal exactly when the batches are."""
    ...


class LoadDataset(Protocol):
  """The dataset function `train` is given."""

  def __call__(
    self, architecture: str, batch_size: int, seed: int, process_index: int, process_count: int
  ) -> Dataset: ...


def tokens_per_row(features: FeatureShapes) -> dict[str, int]:
  """{"encoder_length": ..., "decoder_length": ...}: tokens in a row of each side of the model."""
  return {
    f"{side}_length": features[f"{side}_input_tokens"].shape[1]
    for side in ("encoder", "decoder")
    if f"{side}_input_tokens" in features
  }


def microbatch_shapes(features: FeatureShapes, count: int) -> dict[str, jax.ShapeDtypeStruct]:
  """The features of one of `count` equal parts of the batch, without shardings."""
  return {
    name: jax.ShapeDtypeStruct((x.shape[0] // count, *x.shape[1:]), x.dtype)
    for name, x in features.items()
  }


def predicted_side(architecture: str) -> str:
  """The half of the model whose tokens are predicted, which prefixes the names of features."""
  return "encoder" if architecture == "encoder_only" else "decoder"
