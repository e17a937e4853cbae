"""The data of a run: a corpus, a vocabulary and an objective become batches of one process.

There are two ways. A corpus of texts is read as a stream, by SeqIO and TensorFlow (stream.py). A
token cache is read by index (random_access/), without them: this file imports neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t5x_style.architectures import ARCHITECTURES
from t5x_style.data import corpus_mixture
from t5x_style.data.corpora.base import Corpus
from t5x_style.data.corpora.mixture import Mixture
from t5x_style.data.corpora.token_cache import TokenCache
from t5x_style.data.objectives.base import Objective
from t5x_style.data.tokenizers.vocabulary import Vocabulary
from t5x_style.errors import UserError
from t5x_style.setting_types import FractionBelowOne, PositiveInt, Text


def load(
  architecture: str,
  batch_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
  *,
  corpus: Corpus | None = None,
  replay_corpus: Corpus | None = None,
  replay_share: FractionBelowOne = 0.05,
  vocabulary: Vocabulary | None = None,
  objective: Objective | None = None,
  feature_lengths: Mapping[str, PositiveInt] | None = None,
  mixture_or_task_name: Text | None = None,
  mixture_or_task_module: Text | None = None,
  cross_documents: bool | None = None,
  pack: bool = True,
  streams: PositiveInt = 1,
  shuffle_buffer_size: PositiveInt = 1024,
) -> Any:
  """Opens the data of a run; all mistakes in its settings raise here, before anything is compiled.

  Args:
    architecture: of the model: "encoder_decoder", "decoder_only" or "encoder_only".
    batch_size: global batch in rows, a multiple of `process_count` and of `streams`.
    seed: of the order and the noise; the batches are a function of it and the data.
    process_index, process_count: this process gets its share of the rows of each batch.
    corpus, vocabulary, objective: what is trained on, composed into a SeqIO task. A corpora.Mixture
      is several corpora in one. A token cache has a vocabulary of its own.
    replay_corpus: the corpus of an earlier training, which continues on `corpus`: batches have rows
      of both, and an evaluation has as many batches of each (t5x_style.data.corpus_mixture).
    replay_share: the share of the rows that come from replay_corpus.
    feature_lengths: TASK_FEATURE_LENGTHS in tokens; the objective computes those left out.
    mixture_or_task_name: a registered SeqIO task or mixture instead of corpus and objective.
    mixture_or_task_module: is imported first, to register it.
    cross_documents: whether the tokens of a document see other documents of their row; None leaves
      it to the objective. Examples of the user's own tasks never see each other.
    pack: whether the examples of such a task share rows, and those of an objective that keeps
      documents apart in this way (t5x_style.data.objectives.base.Apart).
    streams: fixed shards of a stream. The batches depend on it, not on the number of processes;
      with several streams each process reads only the part of the data that its rows come from.
    shuffle_buffer_size: examples of a stream held back to shuffle them. Neither has a meaning for
      token caches, whose rows are permuted as a whole.

  Returns:
    a training.dataset.Dataset: random_access.dataset.Dataset for token caches, else stream.Dataset.

  Raises:
    UserError: a setting cannot work, or the data has no example.
  """
  process = (process_index, process_count)
  replayed = None if replay_corpus is None else corpus_mixture.Replay(replay_corpus, replay_share)
  if not mixture_or_task_name and reads_caches(corpus, replay_corpus):
    _check_sizes(architecture, batch_size, 1, process_count)

    from t5x_style.data.random_access import opening

    return opening.open_run(
      corpus,
      replayed,
      vocabulary,
      objective,
      opening.Settings(architecture, pack, batch_size, seed, process),
      feature_lengths,
      cross_documents,
    )
  _check_sizes(architecture, batch_size, streams, process_count)

  from t5x_style.data import sources, stream

  if mixture_or_task_name:
    corpus_mixture.check_absent(replay_corpus, mixture_or_task_name)
    source = sources.of_task(
      mixture_or_task_name, mixture_or_task_module, architecture, feature_lengths
    )
  else:
    source = sources.of_corpus(
      corpus, replayed, vocabulary, objective, architecture, feature_lengths, cross_documents
    )
  return stream.open_stream(
    source,
    architecture,
    batch_size,
    seed,
    process,
    pack=pack,
    streams=streams,
    shuffle_buffer_size=shuffle_buffer_size,
  )


def reads_caches(*corpora: Corpus | None) -> bool:
  """Returns whether one of some corpora is a token cache; then the others have to be, too."""
  each = [
    part
    for corpus in corpora
    for part in (corpus.corpora.values() if isinstance(corpus, Mixture) else [corpus])
  ]
  return any(isinstance(corpus, TokenCache) for corpus in each)


def _check_sizes(architecture: str, batch_size: int, streams: int, process_count: int) -> None:
  if architecture not in ARCHITECTURES:
    raise UserError(f"architecture {architecture!r} is none of {', '.join(ARCHITECTURES)}.")
  for count, what in ((process_count, "processes"), (streams, "data streams (DATA_STREAMS)")):
    if count < 1 or batch_size % count:
      raise UserError(f"BATCH_SIZE = {batch_size} does not divide into {count} {what}.")
