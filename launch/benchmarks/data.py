"""Input on this machine's processors: files to text, text to batches; other packages beside it.

Reading: the same documents, 100 MB, from files of every format; megabytes of text per second.

From tokens: documents of the corpus python_stdlib are tokenised first and kept in memory. Measured
are the objective, the sampling of its components, batching, and the conversion to a model's
features. A token counts once, as part of its window, however often an objective writes it. "from
text" also reads and tokenises the same documents: the most that a run can have on this machine.
"short pairs" are examples of a user's task, of about 300 and 60 tokens (medians 250 and 50), that
share rows of 512 and 128 tokens; the tokens in the rows count.

"token cache": a run reads 40 million tokens of documents (median 400) by index, and resumes at step
20,000; the seconds until its first batch are those of opening the cache. "One objective": what it
makes of windows in memory, by NumPy in this thread, and by TensorFlow, which uses all processors.

Other packages get the same documents, pairs and lengths. One that is not installed is named.

A round takes some seconds; the columns have the median and the slowest round. Full is the share of
the encoder's and of the decoder's positions that are not padding.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t5x_style.data import corpora
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers import vocabularies
from t5x_style.data.tokenizers.base import codec_of
from t5x_style.data.tokenizers.vocabulary import Vocabulary

from . import data_caches, data_objectives, data_peers, data_sources
from .data_rates import rates

COLUMNS = {
  "tokens_per_second": ("tokens/s", ",.0f"),
  "slowest": ("slowest", ",.0f"),
  "rows_per_second": ("rows/s", ",.0f"),
  "batch_tokens": ("tokens a batch", ",.0f"),
  "encoder_density": ("encoder full", ".3f"),
  "decoder_density": ("decoder full", ".3f"),
  "megabytes_per_second": ("MB/s", ",.1f"),
  "documents_per_second": ("documents/s", ",.0f"),
  "seconds_to_first": ("s to first", ",.2f"),
}
_FROM_TEXT, _PAIRS = "span corruption, from text", "short pairs"
LABELS = (
  *data_objectives.CASES,
  _FROM_TEXT,
  *data_caches.LABELS,
  *(f"{peer.label} 00.00.0" for peer in data_peers.PEERS),
  *(format_.label for format_ in data_sources.FORMATS),
)


def measure() -> Iterator[dict[str, Any]]:
  """Yields a row per format, objective, packer and other package; see launch.benchmark."""
  corpus = corpora.PythonStdlib()
  yield from _sources(corpus)
  vocabulary = vocabularies.sentencepiece()
  rows = data_objectives.ROWS
  group = f"{rows} rows a batch, {os.cpu_count()} processors, tensorflow {tf.__version__}"
  tokens = data_objectives.documents(corpus, vocabulary)
  pairs = data_objectives.pairs(tokens)
  for label, case in data_objectives.CASES.items():
    made = data_objectives.batches(case, vocabulary, corpus, tokens)
    yield {"group": group, "label": label} | rates(*made)
  made = data_objectives.batches(data_objectives.CASES["span corruption"], vocabulary, corpus, None)
  yield {"group": group, "label": _FROM_TEXT} | rates(*made)
  yield {"group": group, "label": _PAIRS} | rates(*data_objectives.packed(pairs))
  yield from _caches(tokens, vocabulary)
  inputs = data_peers.Inputs(tokens, pairs, data_objectives.PAIR_LENGTHS, rows, vocabulary)
  for peer in data_peers.PEERS:
    label, peers = data_peers.measured(peer, inputs)
    yield {"group": f"other packages, {group}", "label": label} | (rates(*peers) if peers else {})


def _caches(tokens: Sequence[np.ndarray], vocabulary: Vocabulary) -> Iterator[dict[str, Any]]:
  """Yields a row per run on a token cache, and two per objective: with NumPy and TensorFlow."""
  codec, processors = codec_of(vocabulary), f"{os.cpu_count()} processors"
  with tempfile.TemporaryDirectory() as folder:
    group = f"token cache, {data_objectives.ROWS} rows a batch, from step {data_caches.STEP:,}"
    for row in data_caches.on_cache(tokens, codec, Path(folder) / "cache"):
      yield {"group": f"{group}, {processors}"} | row
  for row in data_caches.alone(tokens, codec):
    yield {"group": f"one objective, {data_objectives.ROWS} windows at once, {processors}"} | row


def _sources(corpus: corpora.PythonStdlib) -> Iterator[dict[str, Any]]:
  """Yields a row per format of files."""
  texts = data_sources.documents(corpus)
  group = f"reading {len(texts):,} documents, {os.cpu_count()} processors"
  with tempfile.TemporaryDirectory() as folder:
    for number, format_ in enumerate(data_sources.FORMATS):
      missing = data_sources.missing(format_)
      row = {} if missing else data_sources.reading(format_, texts, Path(folder) / str(number))
      yield {
        "group": group,
        "label": f"{format_.label}: {missing}" if missing else format_.label,
      } | row
