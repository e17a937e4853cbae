"""Objectives on this machine's processors: raw tokens per second, from tokens to batches.

Documents of the corpus python_stdlib are tokenised first and kept in memory. Measured are the
objective, the sampling of its components, batching, and the conversion to a model's features. A
token counts once, as part of its window, however often an objective writes it. "from text" also
reads and tokenises the same documents: the most that a run can have on this machine. "short pairs"
are examples of a user's task, of about 300 and 60 tokens (medians 250 and 50), that share rows of
512 and 128 tokens; the tokens in the rows count. SeqIO's packing is there for comparison. A round
takes some seconds; the columns have the median and the slowest round. Full is the share of the
encoder's and of the decoder's positions that are not padding.
"""

import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import seqio
import tensorflow as tf

from t5x_style.data import converters, corpora, iterator, packing, pipeline, tasks
from t5x_style.data.corpora.base import Corpus
from t5x_style.data.objectives.base import Objective
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.objectives.ul2 import UL2
from t5x_style.data.tokenizers import vocabularies

COLUMNS = {
  "tokens_per_second": ("tokens/s", ",.0f"),
  "slowest": ("slowest", ",.0f"),
  "batch_tokens": ("tokens a batch", ",.0f"),
  "encoder_density": ("encoder full", ".3f"),
  "decoder_density": ("decoder full", ".3f"),
}
_ROWS = 128
_DOCUMENTS = 600
_PAIRS, _PAIR_LENGTHS = 16_384, {"inputs": 512, "targets": 128}
_PAIR_MEDIANS, _PAIR_SIGMA = (250, 50), 0.7
_DENSITY_BATCHES = 20
_WARM_UP_SECONDS, _ROUND_SECONDS, _ROUNDS = 2.0, 3.0, 5

Batch = Mapping[str, np.ndarray]
Count = Callable[[Batch], int]


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
_FROM_TEXT = "span corruption, from text"


def _seqio_pack(
  examples: tf.data.Dataset, architecture: str, lengths: Mapping[str, int]
) -> tf.data.Dataset:
  """Fills rows one after the other, with SeqIO's own packer."""
  del architecture
  return seqio.utils.trim_and_pack_dataset(examples, lengths)


PACKERS = {"short pairs": packing.pack, "short pairs, SeqIO's packing": _seqio_pack}
LABELS = (*CASES, _FROM_TEXT, *PACKERS)


def measure() -> Iterator[dict[str, Any]]:
  """Yields a row per objective and packer; see launch.benchmark."""
  vocabulary = vocabularies.sentencepiece()
  corpus = corpora.PythonStdlib()
  group = f"{_ROWS} rows a batch, {os.cpu_count()} processors, tensorflow {tf.__version__}"
  tokens = _tokens(corpus, vocabulary)
  for label, case in CASES.items():
    yield {"group": group, "label": label} | _rates(*_batches(case, vocabulary, corpus, tokens))
  case = CASES["span corruption"]
  yield {"group": group, "label": _FROM_TEXT} | _rates(*_batches(case, vocabulary, corpus, None))
  for label, pack in PACKERS.items():
    rows = pack(_pairs(tokens), "encoder_decoder", _PAIR_LENGTHS).batch(_ROWS)
    batches = rows.map(
      lambda batch: converters.convert(batch, "encoder_decoder", _PAIR_LENGTHS),
      num_parallel_calls=tf.data.AUTOTUNE,
    )
    yield {"group": group, "label": label} | _rates(batches, _filled)


def _tokens(corpus: Corpus, vocabulary: vocabularies.SentencePieceVocabulary) -> Any:
  """Returns endless documents: {"targets": int32 [n], "noise_seed": int64 [2]}."""
  texts = corpus.source().get_dataset("train", shuffle=True, seed=0).take(_DOCUMENTS)
  tokens = [d["targets"] for d in tasks.tokenize(texts, vocabulary).as_numpy_iterator()]
  starts = np.cumsum([0, *map(len, tokens)])
  flat = tf.constant(np.concatenate(tokens))
  spans = tf.data.Dataset.from_tensor_slices((starts[:-1], starts[1:])).repeat()
  return spans.map(
    lambda start, end: {"targets": flat[start:end], "noise_seed": tf.zeros([2], tf.int64)}
  )


def _batches(
  case: DataCase, vocabulary: Any, corpus: Corpus, tokens: Any
) -> tuple[tf.data.Dataset, Count]:
  """Returns endless batches and a function that counts the raw tokens of one.

  Args:
    tokens: documents as _tokens returns them; None reads and tokenises the corpus.
  """
  lengths = case.objective.lengths(case.lengths, case.architecture)
  case.objective.check(vocabulary, lengths, case.architecture)
  provider = tasks.register(corpus, vocabulary, case.objective, case.architecture)
  parts = tuple(tasks.parts(provider))
  batching = pipeline.Pipeline(parts, case.architecture, lengths, True, 1)
  raw = [
    int(task.with_raw().get_dataset(lengths).element_spec["raw"].shape[0]) for task, _ in parts
  ]
  count = functools.partial(_windows, np.array(raw))
  if tokens is None:
    return batching.batches("train", _ROWS, 0, training=True), count
  examples = [
    task.objective.preprocessor(vocabulary, lengths, case.architecture)(tokens) for task, _ in parts
  ]
  return batching.assemble(examples, _ROWS, 0, full=True), count


def _pairs(tokens: tf.data.Dataset) -> tf.data.Dataset:
  """Returns endless pairs cut from documents; their lengths follow a log-normal distribution."""
  random = np.random.default_rng(0)
  sizes = 1 + random.lognormal(np.log(_PAIR_MEDIANS), _PAIR_SIGMA, (_PAIRS, 2)).astype(np.int64)
  sizes = np.minimum(sizes, list(_PAIR_LENGTHS.values()))
  flat = np.concatenate([d["targets"] for d in tokens.take(_DOCUMENTS).as_numpy_iterator()])
  flat = tf.constant(np.resize(flat, sizes.sum()))
  ends = tf.constant(sizes.cumsum().reshape(sizes.shape))
  pairs = tf.data.Dataset.from_tensor_slices((ends - sizes, ends)).repeat()
  return pairs.map(
    lambda start, end: {
      name: flat[start[side] : end[side]] for side, name in enumerate(_PAIR_LENGTHS)
    }
  )


def _windows(raw: np.ndarray, batch: Batch) -> int:
  """Returns the tokens of the windows from which the rows of a batch were made."""
  ids = next((batch[name] for name in batch if name.endswith("_component_ids")), None)
  return int(raw[np.zeros(_ROWS, np.int32) if ids is None else ids.max(axis=1)].sum())


def _filled(batch: Batch) -> int:
  """Returns the tokens of a batch that are not padding."""
  return sum(
    int(np.count_nonzero(batch[name]))
    for name in converters.PADDED_TOKENS.values()
    if name in batch
  )


def _rates(batches: tf.data.Dataset, count: Count) -> dict[str, Any]:
  """Measures batches: tokens per second, tokens per batch, and how full the rows are."""
  running = iterator.Stream(iterator.with_options(batches.prefetch(2)))
  take = functools.partial(_take, running, count)
  take(_WARM_UP_SECONDS)
  rounds = [take(_ROUND_SECONDS) for _ in range(_ROUNDS)]
  rates = [tokens / seconds for tokens, seconds, _ in rounds]
  row = {
    "tokens_per_second": statistics.median(rates),
    "slowest": min(rates),
    "batch_tokens": sum(tokens for tokens, _, _ in rounds) / sum(n for _, _, n in rounds),
  }
  some = [next(running) for _ in range(_DENSITY_BATCHES)]
  for side, name in converters.PADDED_TOKENS.items():
    if name in some[0]:
      row[f"{side}_density"] = float(np.mean([batch[name] > 0 for batch in some]))
  return row


def _take(running: iterator.Stream, count: Count, seconds: float) -> tuple[int, float, int]:
  """Takes batches for at least `seconds` and returns (raw tokens, seconds, batches)."""
  start, tokens, taken = time.perf_counter(), 0, 0
  while time.perf_counter() - start < seconds:
    tokens += count(next(running))
    taken += 1
  return tokens, time.perf_counter() - start, taken
