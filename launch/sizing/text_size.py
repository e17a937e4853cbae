"""How many tokens the text of a run has, as far as that is known before it is read."""

from pathlib import PurePath
from typing import Any

import numpy as np

_PLAIN = (
  ".txt",
  ".text",
  ".md",
  ".jsonl",
  ".json",
)  # files whose bytes are about those of the text


def tokens(corpus: Any, dataset: Any) -> float | None:
  """Returns the tokens that are trained on; None if they are not known.

  Args:
    corpus: of the run, such as a TokenCache, which counts its tokens; None for a SeqIO task.
    dataset: of the run. The sizes of plain files are divided by the bytes of a token, which the
      first held-out batch shows.
  """
  cache = getattr(corpus, "opened", None)
  if cache is not None:
    return float(cache.split("train").tokens_total)
  files = dataset.files()
  if not files or not all(PurePath(name).suffix in _PLAIN for name in files):
    return None
  size = sum(known[0] for known in files.values())
  return size / _bytes_per_token(dataset)


def _bytes_per_token(dataset: Any) -> float:
  batch = next(iter(dataset.evaluation(1)))
  rows = [
    row[row > 0]
    for name in ("encoder_input_tokens", "decoder_input_tokens")
    for row in np.asarray(batch.get(name, ()))
  ]
  text = sum(len(dataset.decode(row).encode()) for row in rows)
  return max(1.0, text / max(1, sum(map(len, rows))))
