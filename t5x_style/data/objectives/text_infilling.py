"""Text infilling: one [MASK] replaces a span of any length; the target is the text (BART)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Interval

from t5x_style.data import arrays, noise, windows
from t5x_style.data.arrays import Array
from t5x_style.data.objectives.base import Objective
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.data.tokenizers.words_and_sentences import WordsAndSentences
from t5x_style.data.windows import CorruptWindow
from t5x_style.setting_types import OpenFraction


@dataclasses.dataclass(frozen=True)
class TextInfilling(Objective):
  """BART's corruption (Lewis et al. 2019, section 2.2).

  Span lengths are drawn from a Poisson distribution until they cover the noise; the last one is cut
  to the exact sum. Each span becomes one [MASK]; a span of length zero inserts one. Inputs end with
  EOS; targets are the window and EOS.

  Attributes:
    noise_density: share of the tokens that is hidden; the count is exact in each window.
    mean_span: mean of the Poisson distribution, in tokens.
    permute_sentences: whether the sentences (or lines) of the inputs are shuffled first.
  """

  name = "text_infilling"
  architectures = ("encoder_decoder",)
  how_apart = "examples"

  noise_density: OpenFraction = 0.3
  mean_span: Annotated[float, Interval(gt=0, lt=64)] = 3.0
  permute_sentences: bool = False

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    inputs = self.required_length(feature_lengths, "inputs", 4, "three tokens and EOS")
    targets = feature_lengths.get("targets", inputs)
    self.required_length({"targets": targets}, "targets", 4, "three tokens and EOS")
    return {"inputs": inputs, "targets": targets}

  def check(self, ids: TokenIds, lengths: Mapping[str, int], architecture: str) -> None:
    self.check_architecture(architecture)
    self.check_number("noise_density", 0, 1)
    self.check_number("mean_span", 0, 64)
    ids.special_id("[MASK]")

  def window_length(self, lengths: Mapping[str, int], architecture: str) -> int:
    # There are at most as many masks as hidden tokens, so inputs are not longer than targets.
    return min(lengths["inputs"], lengths["targets"]) - 1

  def corrupt_window(
    self, ids: TokenIds, lengths: Mapping[str, int], architecture: str
  ) -> CorruptWindow:
    raw, eos = self.window_length(lengths, architecture), ids.eos_id
    mask_id = ids.special_id("[MASK]")
    spelling = WordsAndSentences(ids) if self.permute_sentences else None

    def corrupt(window):
      tokens, n, seeds = window["tokens"], window["lengths"], window["seeds"]
      text, xp = tokens, arrays.of(tokens)
      hidden, insertions = self.draw(n, seeds, raw)
      hidden_in_window = hidden
      if spelling:
        order = sentence_order(n, noise.fold_in(seeds, 3), spelling.sentence_ends(tokens))
        text = xp.take_along(tokens, order)
        hidden_in_window = xp.take_along(hidden, xp.argsort(order))
      return {
        "inputs": infill(text, n, hidden, insertions, mask_id, eos, lengths["inputs"]),
        "targets": windows.with_eos(tokens, n, eos, lengths["targets"]),
        "hidden": hidden_in_window,
      }

    return corrupt

  def most_tokens(
    self,
    tokens: np.ndarray,
    targets: np.ndarray | None,
    lengths: Mapping[str, int],
    architecture: str,
  ) -> dict[str, np.ndarray]:
    return {"inputs": tokens + 1, "targets": tokens + 1}  # There are as many masks at most.

  def draw(self, lengths: Array, seeds: Array, raw: int) -> tuple[Array, Array]:
    """Draws the hidden tokens and the places where a [MASK] is inserted, bool [B, raw] each.

    Args:
      lengths: int32 [B], tokens of the windows, at most `raw`.
      seeds: uint64 [B].
      raw: static length of the windows.
    """
    xp = arrays.of(lengths)
    total = xp.round(xp.cast(lengths, np.float64) * self.noise_density)
    total = xp.minimum(xp.maximum(xp.cast(total, np.int32), 1), lengths - 1)
    most = max(1, round(raw * self.noise_density))
    drawn = poisson(noise.fold_in(seeds, 0), most, self.mean_span)
    edges = xp.minimum(xp.cumsum(drawn), total[:, None])
    # In the rare draws that do not reach the sum the last span takes the rest.
    edges = xp.concat([edges[:, :-1], total[:, None]])
    before = xp.pad(edges, 1, 0)[:, :-1]
    grows = edges > before
    spans = xp.sum(xp.cast(grows, np.int32))
    # There may be more spans than gaps: the last span takes the tokens of those that have none.
    limit = xp.minimum(spans, lengths - total + 1)
    place = arrays.places(most)
    compacted = noise.compact(edges, grows, most)
    compacted = xp.where(place + 1 < limit[:, None], compacted, total[:, None])
    # In another order: otherwise the span that was cut would always be the last of the window.
    sizes = compacted - xp.pad(compacted, 1, 0)[:, :-1]
    key = noise.uniform(noise.fold_in(seeds, 4), most)
    key = xp.where(place < limit[:, None], key, np.float32(2))
    sizes = xp.take_along(sizes, xp.argsort(key))
    shuffled = xp.pad(xp.cumsum(sizes), 1, 0)
    hidden = noise.place_spans(noise.fold_in(seeds, 1), shuffled, lengths, total, limit, length=raw)
    empty = ~grows & (before < total[:, None])
    zero = xp.sum(xp.cast(empty, np.int32))
    zero = xp.minimum(zero, xp.minimum(total - limit, lengths - total))
    eligible = ~hidden & (arrays.places(raw) < lengths[:, None])
    places, _ = noise.choose(noise.fold_in(seeds, 2), eligible, zero, most)
    return hidden, noise.positions_to_mask(places, raw)


def poisson(seeds: Array, n: int, mean: float) -> Array:
  """Draws from a Poisson distribution, by its inverse: uint64 [B] seeds -> int32 [B, n]."""
  top = int(mean + 12 * math.sqrt(mean) + 12)
  terms = [math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(top)]
  cumulative = np.cumsum(terms).astype(np.float32)
  return arrays.of(seeds).searchsorted(cumulative, noise.uniform(seeds, n), side="right")


def infill(
  tokens: Array,
  n: Array,
  hidden: Array,
  insertions: Array,
  mask_id: int,
  eos: int,
  length: int,
) -> Array:
  """Writes one [MASK] for each hidden span, one before each token of `insertions`, and EOS.

  tokens a b c d e   hidden 0 1 1 0 0   insertions 0 0 0 0 1
  a [MASK] d [MASK] e EOS
  """
  xp = arrays.of(tokens)
  real = arrays.places(tokens.shape[1]) < n[:, None]
  hidden = hidden & real
  starts = hidden & ~xp.pad(hidden, 1, 0)[:, :-1]
  masks = xp.filled(tokens, tokens.shape[1], mask_id)
  values = xp.concat([xp.interleave(masks, tokens), xp.filled(tokens, 1, eos)])
  keep = xp.interleave(starts | insertions, real & ~hidden)
  return noise.compact(values, xp.concat([keep, xp.filled(tokens, 1, True)]), length)


def sentence_order(n: Array, seeds: Array, ends: Array) -> Array:
  """Returns the positions of each row in an order of shuffled sentences, int32 [B, L].

  Args:
    n: int32 [B], tokens of each row.
    seeds: uint64 [B].
    ends: bool [B, L], the last token of each sentence.
  """
  xp, length = arrays.of(ends), ends.shape[1]
  real = arrays.places(length) < n[:, None]
  sentence = xp.cumsum(xp.cast(ends, np.int32), exclusive=True)
  key = xp.take_along(noise.uniform(seeds, length), sentence)
  return xp.argsort(xp.where(real, key, np.float32(2)))
