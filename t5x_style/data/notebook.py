"""Applies an objective to a list of texts and returns arrays, for notebooks: no gin, no corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seqio

from t5x_style.data import iterator, model_ids, pipeline, skip_counts, tasks
from t5x_style.data.objectives.base import Objective
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers import token_ids
from t5x_style.errors import UserError

_ROWS = 64  # that are converted at once; the result does not depend on it


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
  """Returns what a model would get of `texts`: {model feature: array [rows, length]}.

      corrupt(["def f(x): ..."], SpanCorruption(), vocabularies.sentencepiece(), {"inputs": 64})

  Args:
    texts: one document each.
    objective: if it is a mixture, rows are drawn at its rates until one part has no more text;
      *_component_ids are the indices in objective.components().
    vocabulary: see t5x_style.data.tokenizers.
    feature_lengths: TASK_FEATURE_LENGTHS in tokens; the objective computes those left out.
    architecture: of the model; by default the first one that the objective fits.
    seed, epoch: of the noise; the same pair gives the same rows.

  Raises:
    UserError: the settings cannot work, or the texts are too short for a single row.
  """
  architecture = architecture or objective.architectures[0]
  lengths = objective.lengths(feature_lengths, architecture)
  objective.check(token_ids.of(vocabulary), lengths, architecture)
  noise_seed = tf.constant([seed, epoch], tf.int64)
  documents = tf.data.Dataset.from_tensor_slices(list(texts)).map(
    lambda text: {"text": text, "noise_seed": noise_seed}
  )
  source = seqio.FunctionDataSource(lambda split, shuffle_files: documents, ["train"])
  parts = tuple(
    (tasks.PretrainingTask(name, source, vocabulary, part, architecture), rate)
    for name, part, rate in objective.components()
  )
  each = [task.preprocess_postcache(documents, sequence_length=lengths) for task, _ in parts]
  made = pipeline.Pipeline(parts, architecture, lengths, pack=False, shuffle_buffer_size=1)
  drawn = made.assemble(each, _ROWS, pipeline.derived_seed(seed, epoch), full=False)
  drawn = model_ids.to_model(drawn, vocabulary)
  batches = list(iterator.arrays(drawn))
  if not batches:
    raise UserError(
      f"{len(texts)} texts give {objective.name} no row at feature_lengths = "
      f"{dict(feature_lengths)}; lengthen the texts or shorten the features."
    )
  names = batches[0].keys() - {skip_counts.KEY}
  return {name: np.concatenate([batch[name] for batch in batches]) for name in names}
