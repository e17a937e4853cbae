"""TensorFlow datasets on disk: whether one is there with what is asked of it, and which it is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping

import tensorflow as tf
import tensorflow_datasets as tfds

from t5x_style.errors import UserError


def check(name: str, data_dir: str | None, field: str, splits: Mapping[str, str]) -> None:
  """Raises what is wrong, and says what there is instead.

  Args:
    name: as TFDS names it.
    data_dir: None for TFDS's own default.
    field: of the examples, a text.
    splits: {our split: TFDS split or part of one}.
  """
  builder = _builder(name, data_dir)
  features = builder.info.features
  texts = [key for key, spec in features.items() if spec.dtype in (tf.string, str, object)]
  if field not in texts:
    what = f"is {features[field]}, no text" if field in features else "does not exist"
    raise UserError(
      f"TFDS_FIELD = {field!r} of {name} {what}; fields with text are "
      f"{', '.join(map(repr, texts)) or 'none'}."
    )
  for ours, theirs in splits.items():
    try:
      empty = builder.info.splits[theirs].num_examples == 0
    except (KeyError, ValueError, AssertionError) as error:
      raise UserError(
        f"{name} has no split {theirs!r} for {ours}; there are "
        f"{', '.join(map(repr, builder.info.splits)) or 'none'}. Set Tfds.train_split and "
        "Tfds.validation_split, e.g. 'train[1%:]' and 'train[:1%]'; validation_split = None "
        "holds out nothing."
      ) from error
    if empty:
      raise UserError(f"the split {theirs!r} of {name} is empty; choose another for {ours}.")


def versioned(name: str, data_dir: str | None) -> str:
  """`name` with the version that is there: "c4/en" -> "c4/en:3.0.1"."""
  return name if ":" in name else f"{name}:{_builder(name, data_dir).version}"


def digest(name: str, data_dir: str | None, field: str, splits: Mapping[str, str]) -> str:
  """A fingerprint from the dataset's own record of its version and of the files' contents."""
  builder = _builder(name, data_dir)
  facts = {
    ours: [theirs, builder.info.splits[theirs].num_examples] for ours, theirs in splits.items()
  }
  shards = {
    split: [info.num_bytes, list(map(int, info.shard_lengths))]
    for split, info in builder.info.splits.items()
  }
  text = json.dumps([builder.info.full_name, field, facts, shards], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
  place = os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
  try:
    builder = tfds.builder(name, data_dir=data_dir)
    if tf.io.gfile.exists(os.fspath(builder.data_path)) and len(builder.info.splits):
      return builder
    reason = ""
  except (tfds.core.DatasetNotFoundError, ValueError, AssertionError, OSError) as error:
    reason = f" ({str(error).splitlines()[0]})"
  present = sorted(_prepared(place))
  raise UserError(
    f"TFDS_NAME = {name!r} is not in {place}{reason}. "
    + (f"Prepared there: {', '.join(present)}. " if present else "No dataset is prepared there. ")
    + "Set TFDS_NAME, or --tfds_data_dir to where it is, or prepare it: "
    f"`tfds build {name.split(':')[0]} --data_dir={place}`."
  )


def _prepared(folder: str, most: int = 30) -> Iterator[str]:
  """Names of the datasets below `folder`: name:version or name/config:version."""
  count = 0
  for pattern in ("*/*", "*/*/*"):
    for info in tf.io.gfile.glob(os.path.join(folder, pattern, "dataset_info.json")):
      if count == most:
        return
      *dataset, version, _ = os.path.relpath(info, folder).split(os.sep)
      yield f"{'/'.join(dataset)}:{version}"
      count += 1
