"""This package's objectives and packing on documents in memory, for launch.benchmark data."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import seqio

from t5x_style.data import converters, iterator, packing_stream, pipeline, tasks
from t5x_style.data.corpora.base import Corpus
from t5x_style.data.objectives.base import Objective
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.objectives.ul2 import UL2
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers import token_ids

from .data_rates import Batch, Count, dataset_of, filled

ROWS = 128  # of a batch
PAIR_LENGTHS = {"inputs": 512, "targets": 128}
_DOCUMENTS = 600
_PAIRS, _PAIR_MEDIANS, _PAIR_SIGMA = 16_384, (250, 50), 0.7


class DataCase(NamedTuple):
  """An objective with an architecture and the tokens per row that are given to it."""

  objective: Objective
  architecture: str
  lengths: dict[str, int]


CASES = {
  "span corruption": DataCase(SpanCorruption(), "encoder_decoder", {"inputs": 512}),
  "UL2": DataCase(UL2(), "encoder_decoder", {"inputs": 512}),
  "UL2, decoder-only": DataCase(UL2(), "decoder_only", {"targets": 1024}),
  "masked LM": DataCase(MaskedLM(), "encoder_only", {"inputs": 512}),
  "causal LM": DataCase(CausalLM(), "decoder_only", {"targets": 1024}),
}


def documents(corpus: Corpus, vocabulary: seqio.Vocabulary) -> list[np.ndarray]:
  """Returns the tokens of some documents, int32 [n] each."""
  texts = corpus.source().get_dataset("train", shuffle=True, seed=0).take(_DOCUMENTS)
  return [d["targets"] for d in tasks.tokenize(texts, vocabulary).as_numpy_iterator()]


def pairs(tokens: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
  """Returns pairs cut from documents; their lengths follow a log-normal distribution."""
  random = np.random.default_rng(0)
  sizes = 1 + random.lognormal(np.log(_PAIR_MEDIANS), _PAIR_SIGMA, (_PAIRS, 2)).astype(np.int64)
  sizes = np.minimum(sizes, list(PAIR_LENGTHS.values()))
  flat = np.resize(np.concatenate(tokens), sizes.sum())
  parts = np.split(flat, sizes.cumsum()[:-1])
  return [dict(zip(PAIR_LENGTHS, parts[i : i + 2], strict=True)) for i in range(0, len(parts), 2)]


def batches(
  case: DataCase, vocabulary: Any, corpus: Corpus, tokens: Sequence[np.ndarray] | None
) -> tuple[Iterator[Batch], Count]:
  """Returns endless batches and a function that counts the raw tokens of one.

  Args:
    tokens: of documents; None reads and tokenises the corpus.
  """
  lengths = case.objective.lengths(case.lengths, case.architecture)
  case.objective.check(token_ids.of(vocabulary), lengths, case.architecture)
  provider = tasks.register(corpus, vocabulary, case.objective, case.architecture)
  parts = tuple(tasks.parts(provider))
  batching = pipeline.Pipeline(parts, case.architecture, lengths, True, 1)
  raw = [
    int(task.with_raw().get_dataset(lengths).element_spec["raw"].shape[0]) for task, _ in parts
  ]
  count = functools.partial(_windows, np.array(raw))
  if tokens is None:
    return _stream(batching.batches("train", ROWS, 0, training=True)), count
  endless = _endless(tokens)
  examples = [
    task.objective.preprocessor(vocabulary, lengths, case.architecture)(endless)
    for task, _ in parts
  ]
  return _stream(batching.assemble(examples, ROWS, 0, full=True)), count


def packed(examples: Sequence[Mapping[str, np.ndarray]]) -> tuple[Iterator[Batch], Count]:
  """Returns endless batches of pairs that share rows, as those of a user's own task do."""
  rows = packing_stream.pack(dataset_of(examples).repeat(), "encoder_decoder", PAIR_LENGTHS)
  converted = rows.batch(ROWS).map(
    lambda batch: converters.convert(batch, "encoder_decoder", PAIR_LENGTHS),
    num_parallel_calls=tf.data.AUTOTUNE,
  )
  return _stream(converted), filled


def _stream(dataset: tf.data.Dataset) -> Iterator[Batch]:
  """Returns batches as a run gets them."""
  running = iterator.Stream(iterator.with_options(dataset.prefetch(2)))
  while True:
    yield next(running)


def _endless(tokens: Sequence[np.ndarray]) -> tf.data.Dataset:
  """Returns documents without end: {"targets": int32 [n], "noise_seed": int64 [2]}."""
  noise_seed = tf.zeros([2], tf.int64)
  once = dataset_of([{"targets": ids} for ids in tokens])
  return once.repeat().map(lambda document: document | {"noise_seed": noise_seed})


def _windows(raw: np.ndarray, batch: Batch) -> int:
  """Returns the tokens of the windows from which the rows of a batch were made."""
  ids = next((batch[name] for name in batch if name.endswith("_component_ids")), None)
  return int(raw[np.zeros(ROWS, np.int32) if ids is None else ids.max(axis=1)].sum())
