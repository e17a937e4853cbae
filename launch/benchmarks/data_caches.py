"""Runs on a token cache, and objectives in NumPy beside TensorFlow, for launch.benchmark data."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t5x_style.codecs.text_codec import TextCodec
from t5x_style.data import loader
from t5x_style.data.corpora import TokenCache
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.fill_in_middle import FillInMiddle
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers import token_ids
from t5x_style.token_cache.shard_writer import Stored

from ..caching import small
from .data_objectives import ROWS, DataCase
from .data_rates import Batch, rates

_TOKENS, _MEDIAN, _SIGMA = 40_000_000, 400, 1.0  # of the cache; of a document, log-normal
STEP = 20_000  # from which a run resumes
_SECONDS = 2.0  # for the objective alone

_APART = SpanCorruption(cross_documents=False)
CASES = {
  "span corruption, windows": DataCase(SpanCorruption(), "encoder_decoder", {"inputs": 512}),
  "span corruption, packed rows": DataCase(_APART, "encoder_decoder", {"inputs": 512}),
  "causal LM, windows": DataCase(CausalLM(), "decoder_only", {"targets": 1024}),
}
# Objectives alone, on windows in memory.
ALONE = {
  "span corruption": DataCase(SpanCorruption(), "encoder_decoder", {"inputs": 512}),
  "masked LM": DataCase(MaskedLM(), "encoder_only", {"inputs": 512}),
  "fill in the middle": DataCase(FillInMiddle(), "decoder_only", {"targets": 1024}),
}
LABELS = (*CASES, *(f"{label}, {form}" for label in ALONE for form in ("NumPy", "TensorFlow")))


def write(folder: Path, tokens: Sequence[np.ndarray], codec: TextCodec, total: int) -> None:
  """Writes a cache of `total` tokens, cut out of those of documents, int32 [n] each."""
  random = np.random.default_rng(0)
  flat = np.resize(np.concatenate(tokens), total)
  sizes = 2 + random.lognormal(np.log(_MEDIAN), _SIGMA, total // _MEDIAN).astype(np.int64)
  edges = np.cumsum(sizes)
  documents = np.split(flat, edges[edges < total])
  stored = [Stored(document, None, 0, line) for line, document in enumerate(documents, 1)]
  small.write(folder, {"train": stored}, codec, name="benchmark", shards=2)


def on_cache(
  tokens: Sequence[np.ndarray], codec: TextCodec, folder: Path, total: int = _TOKENS
) -> Iterator[dict[str, Any]]:
  """Yields a row per case: a run that resumes at STEP.

  The seconds to the first batch are those of opening the cache and of the place in it; the plan of
  packed rows is made before, as by the first start of a run.
  """
  write(folder, tokens, codec, total)
  for label, case in CASES.items():
    _opened(folder, case)
    start = time.perf_counter()
    batches, raw = _opened(folder, case)
    first = next(batches)
    seconds = time.perf_counter() - start
    of_batch = round(raw * len(next(iter(first.values()))))
    found = rates(batches, functools.partial(_same, of_batch))
    yield {"label": label, **found, "seconds_to_first": seconds}


def _same(tokens: int, batch: Batch) -> int:
  del batch
  return tokens


def _opened(folder: Path, case: DataCase) -> tuple[Any, float]:
  """Returns the batches of a run from STEP on, and the tokens of text of a row, on average."""
  dataset = loader.load(
    case.architecture,
    ROWS,
    0,
    corpus=TokenCache(str(folder)),
    objective=case.objective,
    feature_lengths=case.lengths,
  )
  batches = dataset.train()
  (name,) = (state := batches.get_state())
  batches.set_state({name: state[name].replace(b'"batch": 0', f'"batch": {STEP}'.encode())})
  (component,) = dataset.rows.components
  return batches, component.examples.split.tokens_total / component.examples.count


def alone(tokens: Sequence[np.ndarray], codec: TextCodec) -> Iterator[dict[str, Any]]:
  """Yields two rows per objective: what it makes of windows in memory, in both forms."""
  ids = token_ids.of_codec(codec)
  for label, case in ALONE.items():
    objective, architecture = case.objective, case.architecture
    lengths = objective.lengths(case.lengths, architecture)
    length = objective.window_length(lengths, architecture)
    window = {
      "tokens": np.resize(np.concatenate(tokens), (ROWS, length)).astype(np.int32),
      "lengths": np.full(ROWS, length, np.int32),
      "seeds": np.arange(ROWS, dtype=np.uint64),
    }
    corrupt = objective.corrupt_window(ids, lengths, architecture)
    graph = tf.function(corrupt)
    tensors = {name: tf.constant(value) for name, value in window.items()}
    for form, make in (
      ("NumPy", lambda corrupt=corrupt, window=window: corrupt(window)),
      ("TensorFlow", lambda graph=graph, tensors=tensors: graph(tensors)),
    ):
      each = _seconds(make)
      yield {
        "label": f"{label}, {form}",
        "tokens_per_second": ROWS * length / each,
        "rows_per_second": ROWS / each,
        "batch_tokens": ROWS * length,
      }


def _seconds(make: Callable[[], Any]) -> float:
  """Returns the seconds of a call, without the first, which traces the graph."""
  make()
  start, calls = time.perf_counter(), 0
  while time.perf_counter() - start < _SECONDS:
    make()
    calls += 1
  return (time.perf_counter() - start) / calls
