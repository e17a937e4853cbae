"""Features that only some components of a mixture have; all rows of a batch need all of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from t5x_style.data import arrays
from t5x_style.data.arrays import Features


def complete(rows: Features, names: Iterable[str]) -> Features:
  """Adds the model features `names` that rows, [L] or [B, L] each, do not have.

  Without segment ids a row is one segment; a row without a pair of sentences has the label -1.
  """
  rows = dict(rows)
  for name in names:
    if name in rows:
      continue
    side = name.split("_")[0]
    targets = f"{side}_target_tokens"
    if name == "pair_labels":
      tokens = next(value for key, value in rows.items() if key.endswith("_tokens"))
      rows[name] = tokens[..., 0] * 0 - 1
      continue
    tokens = rows[targets if targets in rows else f"{side}_input_tokens"]
    xp = arrays.of(tokens)
    if name.endswith("_segment_ids"):
      rows[name] = xp.cast(tokens > 0, np.int32)
    elif name.endswith("_positions"):
      place = np.arange(tokens.shape[-1], dtype=np.int32)
      rows[name] = xp.where(tokens > 0, place, np.int32(0))
    else:
      rows[name] = xp.zeros_like(tokens)
  return rows
