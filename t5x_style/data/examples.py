"""An objective applied to a list of strings, for notebooks: no gin, no corpus, numpy out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

from t5x_style.data import converters, iterator, tasks
from t5x_style.data.objective import Objective


def corrupt(
  texts: Sequence[str | bytes],
  objective: Objective,
  vocabulary: seqio.Vocabulary,
  feature_lengths: Mapping[str, int],
  architecture: str | None = None,
  *,
  seed: int = 0,
  epoch: int = 0,
) -> dict[str, np.ndarray]:
  """What a model would be fed of `texts`: {model feature: array [rows, length]}.

      corrupt(["def f(x): ..."], SpanCorruption(), vocabularies.sentencepiece(), {"inputs": 64})

  Args:
    texts: one document each.
    objective: of a single part; for a mixture call it with each of objective.components().
    vocabulary: of t5x_style.data.vocabularies.
    feature_lengths: tokens, as in TASK_FEATURE_LENGTHS; what is left out is computed.
    architecture: the first the objective fits where it is None.
    seed, epoch: of the noise; the same pair gives the same rows.

  Raises:
    ValueError: the objective cannot work so, or the texts are too short for a single row.
  """
  architecture = architecture or objective.architectures[0]
  lengths = objective.lengths(feature_lengths, architecture)
  objective.check(vocabulary, lengths, architecture)
  noise_seed = tf.constant([seed, epoch], tf.int64)
  documents = tf.data.Dataset.from_tensor_slices(list(texts)).map(
    lambda text: {"text": text, "noise_seed": noise_seed}
  )
  tokens = tasks.tokenize(documents, vocabulary)
  rows = objective.preprocessor(vocabulary, lengths, architecture)(tokens)
  rows = list(iterator.with_options(rows).as_numpy_iterator())
  if not rows:
    raise ValueError(
      f"{len(texts)} texts give {objective.name} no row at feature_lengths = "
      f"{dict(feature_lengths)}; lengthen the texts or shorten the features."
    )
  batch = {key: tf.stack([row[key] for row in rows]) for key in rows[0]}
  features = converters.convert(batch, architecture, lengths)
  return {name: value.numpy() for name, value in features.items()}
