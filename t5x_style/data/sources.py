"""What a run trains on: a corpus and an objective, or a SeqIO task of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import seqio

from t5x_style.data import corpus_mixture, tasks
from t5x_style.data.corpora.base import Corpus
from t5x_style.data.objectives.base import Objective
from t5x_style.data.tokenizers import token_ids
from t5x_style.errors import UserError


class Source(NamedTuple):
  """What a run trains on, with the lengths of its features in tokens."""

  name: str  # of the objective, or of the user's own task or mixture
  provider: seqio.Task | seqio.Mixture
  lengths: dict[str, int]
  vocabulary: seqio.Vocabulary
  identity: dict[str, Any]  # its part of the identity of the run
  description: str  # of the corpora, or of the user's own task or mixture
  unit: str = "rows"  # what the rates of the provider are rates of: "rows" or "tokens"


def of_task(
  name: str,
  module: str | None,
  architecture: str,
  feature_lengths: Mapping[str, int] | None,
) -> Source:
  """Opens a SeqIO task or mixture of the user's own.

  Raises:
    UserError: it is not registered, or its features do not fit the model.
  """
  provider = tasks.lookup(name, module)
  lengths = tasks.lengths(provider, architecture, feature_lengths)
  vocabulary = provider.output_features["targets"].vocabulary
  return Source(name, provider, lengths, vocabulary, {"mixture_or_task_name": name}, name)


def of_corpus(
  corpus: Corpus | None,
  replayed: corpus_mixture.Replay | None,
  vocabulary: seqio.Vocabulary | None,
  objective: Objective | None,
  architecture: str,
  feature_lengths: Mapping[str, int] | None,
  cross_documents: bool | None = None,
) -> Source:
  """Registers a SeqIO task or mixture of the corpora of a run and an objective.

  Args:
    cross_documents: replaces what the objective says, unless it is None.

  Raises:
    UserError: one of them is missing, or they do not fit together.
  """
  for value, macro, folder in (
    (corpus, "CORPUS", "data"),
    (vocabulary, "VOCABULARY", "data"),
    (objective, "OBJECTIVE", "objectives"),
  ):
    if value is None:
      raise UserError(f"{macro} is not set; include a file of gin_configs/{folder}/.")
  assert corpus is not None and vocabulary is not None and objective is not None
  objective.check_architecture(architecture)
  if replayed is not None:
    corpus_mixture.check_replay(corpus, replayed)
  parts = corpus_mixture.parts(corpus, replayed)
  objective = corpus_mixture.for_corpora(objective, parts)
  if cross_documents is not None:
    objective = objective.with_cross_documents(cross_documents)
  lengths = objective.lengths(dict(feature_lengths or {}), architecture)
  objective.check(token_ids.of(vocabulary), lengths, architecture)
  provider = tasks.register(corpus, vocabulary, objective, architecture, replayed)
  identity = corpus_mixture.identity(corpus, replayed)
  description, unit = corpus_mixture.describe(parts), corpus_mixture.unit(corpus)
  return Source(objective.name, provider, lengths, vocabulary, identity, description, unit)
