"""What training needs of a dataset. Nothing here knows where the batches come from."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

Batch = dict[str, np.ndarray]
FeatureShapes = Mapping[str, jax.ShapeDtypeStruct]


class BatchIterator(Protocol):
  """An endless stream of this process' rows of each batch. Its place in the data can be saved."""

  def __next__(self) -> Batch: ...

  def skipped(self) -> str:
    """Returns one line about the text that was skipped or repaired so far, or ""."""
    ...

  def epochs(self) -> dict[str, float]:
    """Returns {corpus: how often it has been read}, with what shuffles hold back; {} for one."""
    ...

  def get_state(self) -> dict[str, bytes]:
    """Returns the place after the last batch: one entry per stream of the data."""
    ...

  def set_state(self, state: Mapping[str, bytes]) -> None: ...


class Dataset(Protocol):
  """Batches for one architecture, as `load` of t5x_style.data.loader builds them."""

  vocab_size: int
  special_ids: tuple[int, int, int]  # of padding (-1 if there is none), end and start
  feature_shapes: dict[str, jax.ShapeDtypeStruct]  # of the global batch, without shardings
  max_targets: int | None  # the most positions with loss per row, if they are few
  token_bytes: np.ndarray | None  # [V] UTF-8 bytes of each id; None: no bits per byte
  component_names: tuple[str, ...]  # of the ids in *_component_ids, for a mixture
  label_names: tuple[str, ...]  # of the classes, where the label of a row is all that is predicted
  exact_match: bool  # whether the targets of a row are an answer, which is right as a whole or not

  @property
  def description(self) -> str:
    """Names the data and the objectives, for the header of a run."""
    ...

  def train(self) -> BatchIterator: ...

  def evaluation(self, max_batches: int) -> Iterable[Batch]:
    """Returns the first batches of the held-out split: the same at every call."""
    ...

  def decode(self, ids: Any) -> str: ...

  def identity(self) -> dict[str, Any]:
    """Returns JSON that is equal for two datasets only if their batches are equal."""
    ...

  def files(self) -> dict[str, list]:
    """Returns {file: [bytes, checksum]} of the text, to name those that changed; {} if unknown."""
    ...


class LoadDataset(Protocol):
  """The function that opens a dataset; TrainConfig.dataset is one."""

  def __call__(
    self, architecture: str, batch_size: int, seed: int, process_index: int, process_count: int
  ) -> Dataset: ...


def tokens_per_row(features: FeatureShapes) -> dict[str, int]:
  """Returns the tokens in a row: {"encoder_length": ..., "decoder_length": ...} of those it has."""
  return {
    f"{side}_length": features[f"{side}_input_tokens"].shape[1]
    for side in ("encoder", "decoder")
    if f"{side}_input_tokens" in features
  }


def microbatch_shapes(features: FeatureShapes, count: int) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns the shapes of one of `count` equal parts of the batch, without shardings."""
  return {
    name: jax.ShapeDtypeStruct((x.shape[0] // count, *x.shape[1:]), x.dtype)
    for name, x in features.items()
  }
