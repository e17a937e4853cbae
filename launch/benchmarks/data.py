"""Objectives on this machine's processor: raw tokens a second, from tokenised documents to batches.

Documents of the embedded corpus are tokenised beforehand and held in memory. What is measured is
the objective, the drawing of its components, batching, and the conversion to a model's features.
A token counts once, as part of its window, however often an objective writes it. "from text" reads
and tokenises the same documents as well, from files: what a run can have at most on this machine.
Rounds are of some seconds each; the median and the slowest are shown.
"""

import functools
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from t5x_style.data import corpora, iterator, pipeline, tasks, vocabularies
from t5x_style.data.causal_lm import CausalLM
from t5x_style.data.masked_lm import MaskedLM
from t5x_style.data.objective import Objective
from t5x_style.data.span_corruption import SpanCorruption
from t5x_style.data.ul2 import UL2

COLUMNS = {
  "tokens_per_second": ("tokens/s", ",.0f"),
  "slowest": ("slowest", ",.0f"),
  "batch_tokens": ("tokens a batch", ",.0f"),
}
_ROWS = 128
_DOCUMENTS = 600
_WARM_UP_SECONDS, _ROUND_SECONDS, _ROUNDS = 2.0, 3.0, 5


class Case(NamedTuple):
  """An objective at a length."""

  objective: Objective
  architecture: str
  lengths: dict[str, int]


CASES = {
  "span corruption": Case(SpanCorruption(), "encoder_decoder", {"inputs": 512}),
  "UL2": Case(UL2(), "encoder_decoder", {"inputs": 512}),
  "UL2, decoder-only": Case(UL2(), "decoder_only", {"targets": 1024}),
  "masked LM": Case(MaskedLM(), "encoder_only", {"inputs": 512}),
  "causal LM": Case(CausalLM(), "decoder_only", {"targets": 1024}),
}
_FROM_TEXT = "span corruption, from text"
LABELS = (*CASES, _FROM_TEXT)


def measure() -> Iterator[dict[str, Any]]:
  """A row per objective; see launch.benchmark."""
  vocabulary = vocabularies.sentencepiece()
  corpus = corpora.PythonStdlib()
  group = f"{_ROWS} rows a batch, {os.cpu_count()} processors, tensorflow {tf.__version__}"
  tokens = _tokens(corpus, vocabulary)
  for label, case in CASES.items():
    batches, raw = _batches(case, vocabulary, corpus, tokens)
    yield {"group": group, "label": label} | _rates(batches, raw)
  case = CASES["span corruption"]
  batches, raw = _batches(case, vocabulary, corpus, None)
  yield {"group": group, "label": _FROM_TEXT} | _rates(batches, raw)


def _tokens(corpus: corpora.Corpus, vocabulary: vocabularies.SentencePieceVocabulary) -> Any:
  """Documents of the corpus, over and over: {"targets": int32 [n], "noise_seed": int64 [2]}."""
  texts = corpus.source().get_dataset("train", shuffle=True, seed=0).take(_DOCUMENTS)
  tokens = [d["targets"] for d in tasks.tokenize(texts, vocabulary).as_numpy_iterator()]
  starts = np.cumsum([0, *map(len, tokens)])
  flat = tf.constant(np.concatenate(tokens))
  spans = tf.data.Dataset.from_tensor_slices((starts[:-1], starts[1:])).repeat()
  return spans.map(
    lambda start, end: {"targets": flat[start:end], "noise_seed": tf.zeros([2], tf.int64)}
  )


def _batches(
  case: Case, vocabulary: Any, corpus: corpora.Corpus, tokens: Any
) -> tuple[tf.data.Dataset, Sequence[int]]:
  """Endless batches, from `tokens` or else from the corpus, and the window of each component."""
  lengths = case.objective.lengths(case.lengths, case.architecture)
  case.objective.check(vocabulary, lengths, case.architecture)
  provider = tasks.register(corpus, vocabulary, case.objective, case.architecture)
  parts = tuple(tasks.parts(provider))
  made = pipeline.Pipeline(parts, case.architecture, lengths, True, 1)
  raw = [
    int(task.with_raw().get_dataset(lengths).element_spec["raw"].shape[0]) for task, _ in parts
  ]
  if tokens is None:
    return made.batches("train", _ROWS, 0, training=True), raw
  examples = [
    task.objective.preprocessor(vocabulary, lengths, case.architecture)(tokens) for task, _ in parts
  ]
  return made.assemble(examples, _ROWS, 0, full=True), raw


def _rates(batches: tf.data.Dataset, raw: Sequence[int]) -> dict[str, Any]:
  components = next(
    (name for name in batches.element_spec if name.endswith("_component_ids")), None
  )
  running = iter(iterator.with_options(batches.prefetch(2)))
  take = functools.partial(_take, running, components, np.array(raw))
  take(_WARM_UP_SECONDS)
  rounds = [take(_ROUND_SECONDS) for _ in range(_ROUNDS)]
  rates = [tokens / seconds for tokens, seconds, _ in rounds]
  return {
    "tokens_per_second": statistics.median(rates),
    "slowest": min(rates),
    "batch_tokens": sum(tokens for tokens, _, _ in rounds) / sum(count for _, _, count in rounds),
  }


def _take(
  running: Any, components: str | None, raw: np.ndarray, seconds: float
) -> tuple[int, float, int]:
  """Takes batches for so long: (raw tokens, seconds, batches)."""
  start, tokens, count = time.perf_counter(), 0, 0
  while time.perf_counter() - start < seconds:
    batch = next(running)
    rows = np.max(batch[components], axis=1) if components else np.zeros(_ROWS, np.int32)
    tokens += int(raw[rows].sum())
    count += 1
  return tokens, time.perf_counter() - start, count
