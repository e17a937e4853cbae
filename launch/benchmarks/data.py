"""Input on this machine's processors: files to text, text to batches; other packages beside it.

Reading: the same documents, 100 MB, from files of every format; megabytes of text per second.

From tokens: documents of the corpus python_stdlib are tokenised first and kept in memory. Measured
are the objective, the sampling of its components, batching, and the conversion to a model's
features. A token counts once, as part of its window, however often an objective writes it. "from
text" also reads and tokenises the same documents: the most that a run can have on this machine.
"short pairs" are examples of a user's task, of about 300 and 60 tokens (medians 250 and 50), that
share rows of 512 and 128 tokens; the tokens in the rows count.

Other packages get the same documents, pairs and lengths. One that is not installed is named.

A round takes some seconds; the columns have the median and the slowest round. Full is the share of
the encoder's and of the decoder's positions that are not padding.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t5x_style.data import corpora
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers import vocabularies

from . import data_objectives, data_peers, data_sources
from .data_rates import rates

COLUMNS = {
  "tokens_per_second": ("tokens/s", ",.0f"),
  "slowest": ("slowest", ",.0f"),
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
  inputs = data_peers.Inputs(tokens, pairs, data_objectives.PAIR_LENGTHS, rows, vocabulary)
  for peer in data_peers.PEERS:
    label, peers = data_peers.measured(peer, inputs)
    yield {"group": f"other packages, {group}", "label": label} | (rates(*peers) if peers else {})


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
