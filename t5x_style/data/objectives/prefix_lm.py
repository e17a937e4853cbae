"""Prefix language modelling: reads a beginning in both directions, predicts the rest (T5, UL2)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from t5x_style import likelihoods
from t5x_style.data import arrays, noise, windows
from t5x_style.data.arrays import Array, Features
from t5x_style.data.objectives.base import Objective
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.data.windows import CorruptWindow
from t5x_style.errors import UserError
from t5x_style.setting_types import OpenFraction, Text


@dataclasses.dataclass(frozen=True)
class PrefixLM(Objective):
  """Cuts a window at a random point; what follows carries loss (Raffel et al. 2019, section 3.2).

  encoder_decoder: inputs = mode, prefix, EOS; targets = suffix, EOS.
  decoder_only: one row of mode, prefix, suffix, EOS; the prefix is read in both directions.

  Attributes:
    suffix_share: mean share of the window that is predicted. The suffix has 1 to
      2 * suffix_share * L - 1 tokens, all equally likely: at .5 the cut is uniform in [1, L-1], at
      .25 (UL2's S-denoiser) it is in the second half.
    mode: special token in front of the prefix, which names the denoiser (UL2), or None.
  """

  name = "prefix_lm"
  architectures = ("encoder_decoder", "decoder_only")
  likelihood = likelihoods.SUFFIX
  how_apart = "examples"

  suffix_share: OpenFraction = 0.5
  mode: Text | None = None

  def window_length(self, lengths: Mapping[str, int], architecture: str) -> int:
    """Returns the raw tokens of the longest window of which every cut fits the features."""
    room = int(self.mode is not None)
    if architecture == "decoder_only":
      return lengths["targets"] - room - 1
    # The longest prefix is the window without its last token, whose place EOS takes.
    return lengths["inputs"] - room

  def longest_suffix(self, raw: int) -> int:
    """Returns the most tokens of a suffix, of a window of `raw` tokens."""
    return min(max(1, math.ceil(2 * self.suffix_share * raw) - 1), raw - 1)

  def lengths(self, feature_lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
    self._check_numbers()
    why = "a prefix, a suffix and EOS are the least"
    if architecture == "decoder_only":
      return {"targets": self.total_length(feature_lengths, 4, why)}
    inputs = self.required_length(feature_lengths, "inputs", 4, why)
    needed = self.longest_suffix(self.window_length({"inputs": inputs}, architecture)) + 1
    why = (
      f"with inputs {inputs} and suffix_share {self.suffix_share} they have up to {needed} tokens"
    )
    return {"inputs": inputs, "targets": self.targets_length(feature_lengths, needed, why)}

  def check(self, ids: TokenIds, lengths: Mapping[str, int], architecture: str) -> None:
    self.check_architecture(architecture)
    self._check_numbers()
    if self.mode is not None:
      ids.special_id(self.mode)

  def _check_numbers(self) -> None:
    if not 0 < self.suffix_share <= 0.5:
      raise UserError(
        f"PrefixLM.suffix_share = {self.suffix_share} is outside (0, .5]; set "
        "prefix_lm.PrefixLM.suffix_share in the gin file."
      )

  def corrupt_window(
    self, ids: TokenIds, lengths: Mapping[str, int], architecture: str
  ) -> CorruptWindow:
    raw, eos = self.window_length(lengths, architecture), ids.eos_id
    mode = () if self.mode is None else (ids.special_id(self.mode),)

    def cut(window):
      tokens, n = window["tokens"], window["lengths"][:, None]
      xp, place = arrays.of(tokens), arrays.places(raw + 1)
      share = xp.cast(n, np.float64) * 2 * self.suffix_share
      longest = xp.minimum(xp.maximum(xp.cast(xp.ceil(share), np.int32) - 1, 1), n - 1)
      split = n - 1 - noise.integers(window["seeds"], 1, longest)
      hidden = ((place >= split) & (place < n))[:, :raw]
      if architecture == "decoder_only":
        return {**joined(tokens, n, split, mode, eos, lengths["targets"]), "hidden": hidden}
      padded = xp.pad(tokens, 0, 1)
      prefix = xp.where(place < split, padded, xp.where(place == split, np.int32(eos), np.int32(0)))
      suffix = xp.where(place == n, eos, padded)
      return {
        "inputs": xp.concat([windows.repeated(mode, tokens), prefix[:, :raw]]),
        "targets": noise.compact(suffix, (place >= split) & (place <= n), lengths["targets"]),
        "hidden": hidden,
      }

    return cut

  def most_tokens(
    self,
    tokens: np.ndarray,
    targets: np.ndarray | None,
    lengths: Mapping[str, int],
    architecture: str,
  ) -> dict[str, np.ndarray]:
    mode = int(self.mode is not None)
    if architecture == "decoder_only":
      return {"targets": mode + tokens + 1}
    share = np.ceil(tokens * 2 * self.suffix_share).astype(np.int64) - 1
    longest = np.minimum(np.maximum(share, 1), tokens - 1)
    return {"inputs": mode + tokens, "targets": longest + 1}


def joined(
  tokens: Array,
  n: Array,
  split: Array,
  mode: tuple[int, ...],
  eos: int,
  length: int,
) -> Features:
  """Writes windows as rows of a decoder.

  Args:
    tokens: int32 [B, L].
    n: int32 [B, 1], tokens of each window.
    split: int32 [B, 1], tokens of each prefix.
    mode: ids in front of the prefix.
    eos: its id.
    length: of the rows.

  Returns:
    [B, length] each: targets, loss_weights (1 after the prefix) and causal_attention (1 on decoder
    inputs up to the last token of the prefix; they are shifted right by one).
  """
  xp = arrays.of(tokens)
  row = xp.concat([windows.repeated(mode, tokens), tokens])
  row = xp.pad(row, 0, length - row.shape[1])
  place = arrays.places(length) - len(mode)
  return {
    "targets": xp.where(place == n, eos, row),
    "loss_weights": xp.cast((place >= split) & (place <= n), np.float32),
    "causal_attention": xp.cast(place <= split, np.int32),
  }
