"""Feature converters: task features to the features that a model of each architecture gets.

  encoder_decoder   encoder_input_tokens          inputs
                    decoder_target_tokens         targets
                    decoder_input_tokens          targets shifted right, 0 in front
                    decoder_loss_weights          1 where there is a target
  decoder_only      the decoder_* features; inputs, if the task has them, are a prefix of the
                    targets: they carry no loss and are marked in decoder_causal_attention
  encoder_only      encoder_input_tokens, encoder_target_tokens, encoder_loss_weights
Where examples share a row, also *_segment_ids (from 1, 0 is padding) and *_positions (from 0).
NumPy arrays and tensors give the same features; see arrays.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from t5x_style.data import arrays, noise
from t5x_style.data.arrays import Array, Features

# The feature of each side whose zeros are padding. A decoder's inputs start with another 0.
PADDED_TOKENS = {"encoder": "encoder_input_tokens", "decoder": "decoder_target_tokens"}


def model_lengths(lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
  """Returns the lengths of the sides a model has: {"encoder": S, "decoder": T}, or one of them."""
  if architecture == "encoder_only":
    return {"encoder": lengths["inputs"]}
  if architecture == "decoder_only":
    return {"decoder": lengths.get("inputs", 0) + lengths["targets"]}
  return {"encoder": lengths["inputs"], "decoder": lengths["targets"]}


def shift_right(targets: Array, segment_ids: Array | None = None) -> Array:
  """Shifts targets right to be decoder inputs; each segment starts with 0.

  targets      [[3, 8, 1, 9, 1, 0]]
  segment_ids  [[1, 1, 1, 2, 2, 0]]
  returns      [[0, 3, 8, 0, 9, 0]]
  """
  xp = arrays.of(targets)
  shifted = xp.pad(targets, 1, 0)[:, :-1]
  if segment_ids is None:
    return xp.where(targets > 0, shifted, 0)
  before = xp.pad(segment_ids, 1, 0)[:, :-1]
  return xp.where((segment_ids == before) & (segment_ids > 0), shifted, 0)


def positions(segment_ids: Array) -> Array:
  """Numbers the tokens of each segment from 0: [[1, 1, 2, 2, 2, 0]] -> [[0, 1, 0, 1, 2, 0]]."""
  xp, length = arrays.of(segment_ids), segment_ids.shape[1]
  ids = xp.where(segment_ids > 0, segment_ids, length + 1)  # Ids ascend within a row.
  place = arrays.places(length) - xp.first_equal(ids)
  return xp.where(segment_ids > 0, place, 0)


def convert(batch: Features, architecture: str, lengths: Mapping[str, int]) -> Features:
  """Converts task features [B, ...], padded to their lengths, to model features."""
  if architecture == "encoder_only":
    return _encoder_only(batch)
  if architecture == "decoder_only" and "inputs" in batch:
    batch = join_prefix(batch, model_lengths(lengths, architecture)["decoder"])
  features = _decoder(batch)
  if architecture == "encoder_decoder":
    features["encoder_input_tokens"] = batch["inputs"]
    features |= _segments(batch, "inputs", "encoder")
  return features


def _decoder(batch: Features) -> Features:
  targets = batch["targets"]
  features = {
    "decoder_input_tokens": shift_right(targets, batch.get("targets_segment_ids")),
    "decoder_target_tokens": targets,
    "decoder_loss_weights": _weights(batch),
  }
  if "causal_attention" in batch:
    features["decoder_causal_attention"] = batch["causal_attention"]
  if "component_ids" in batch:
    features["decoder_component_ids"] = batch["component_ids"]
  return features | _segments(batch, "targets", "decoder")


def _encoder_only(batch: Features) -> Features:
  features = {
    "encoder_input_tokens": batch["inputs"],
    "encoder_target_tokens": batch["targets"],
    "encoder_loss_weights": _weights(batch),
  }
  for name in ("token_types", "component_ids"):
    if name in batch:
      features[f"encoder_{name}"] = batch[name]
  if "pair_label" in batch:
    features["pair_labels"] = batch["pair_label"]
  return features | _segments(batch, "inputs", "encoder")


def _weights(batch: Features) -> Array:
  weights = batch["loss_weights"] if "loss_weights" in batch else batch["targets"] > 0
  return arrays.of(weights).cast(weights, np.float32)


def _segments(batch: Features, feature: str, side: str) -> Features:
  ids = batch.get(f"{feature}_segment_ids")
  if ids is None:
    return {}
  return {f"{side}_segment_ids": ids, f"{side}_positions": positions(ids)}


def join_prefix(batch: Features, length: int) -> Features:
  """Joins inputs and targets for a decoder that reads the inputs in both directions.

      inputs  [[5, 6, 0]]   targets [[7, 8]]
      targets          [[5, 6, 7, 8, 0]]
      loss_weights     [[0, 0, 1, 1, 0]]
      causal_attention [[1, 1, 1, 0, 0]]  for the decoder *inputs* 0 5 6 7 .: one more than the
                                          prefix, as they are shifted right

  Args:
    batch: rows of one example each; component ids move with the targets.
    length: tokens of the result.
  """
  inputs, targets = batch["inputs"], batch["targets"]
  xp = arrays.of(inputs)
  joined = xp.concat([inputs, targets])
  keep = joined > 0
  result = {"targets": noise.compact(joined, keep, length)}
  weights = xp.concat([xp.cast(xp.zeros_like(inputs), np.float32), _weights(batch)])
  result["loss_weights"] = noise.compact(weights, keep, length)
  prefix = xp.sum(xp.cast(inputs > 0, np.int32))[:, None]
  total = xp.sum(xp.cast(keep, np.int32))[:, None]
  place = arrays.places(length)
  result["causal_attention"] = xp.cast((place <= prefix) & (place < total), np.int32)
  if "component_ids" in batch:
    result["component_ids"] = xp.where(place < total, batch["component_ids"][:, :1], 0)
  return result


def join_example(example: Features) -> Features:
  """`join_prefix` for one example without padding."""
  inputs, targets = example["inputs"], example["targets"]
  xp = arrays.of(inputs)
  weights = xp.cast(example.get("loss_weights", xp.ones_like(targets)), np.float32)
  joined = {
    "targets": xp.concat([inputs, targets]),
    "loss_weights": xp.concat([xp.cast(xp.zeros_like(inputs), np.float32), weights]),
  }
  place = xp.arange(xp.size(joined["targets"]))
  joined["causal_attention"] = xp.cast(place <= xp.size(inputs), np.int32)
  if "component_ids" in example:
    joined["component_ids"] = xp.zeros_like(place) + xp.sum(example["component_ids"][:1])
  return joined
