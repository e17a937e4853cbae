"""UL2: seven denoisers at their rates, each after its mode token, each with its own lengths."""

import numpy as np
import pytest

from t5x_style.data.objectives.ul2 import UL2, UL2Short
from t5x_style.data.tokenizers import special_tokens, token_ids, vocabularies


def test_the_papers_seven_denoisers():
  parts = UL2().components()
  assert [name for name, _, _ in parts] == [
    "R_3_15",
    "R_8_15",
    "S",
    "X_3_50",
    "X_8_50",
    "X_64_15",
    "X_64_50",
  ]
  assert len({rate for _, _, rate in parts}) == 1
  assert [o.mode for _, o, _ in parts] == ["[R]"] * 2 + ["[S]"] + ["[X]"] * 4


def test_rates_are_split_within_a_mode():
  rates = {name: rate for name, _, rate in UL2(rates=(0.25, 0.5, 0.25)).components()}
  assert rates["S"] == 0.5 and rates["R_3_15"] == 0.125 and rates["X_64_50"] == 0.0625
  assert "S" not in [n for n, _, _ in UL2(rates=(0.5, 0, 0.5)).components()]
  short = UL2Short().components()
  assert [(n, r) for n, _, r in short] == [("R", 0.5), ("S", 0.25), ("X", 0.25)]


@pytest.mark.parametrize(
  "objective", [pytest.param(UL2(), marks=pytest.mark.slow), UL2Short()], ids=str
)
@pytest.mark.parametrize(
  "architecture", ["decoder_only", pytest.param("encoder_decoder", marks=pytest.mark.slow)]
)
def test_each_denoiser_fits_and_begins_with_its_mode(objective, architecture, examples, vocabulary):
  given = {"inputs": 256} if architecture == "encoder_decoder" else {"targets": 256}
  lengths = objective.lengths(given, architecture)
  for name, part, _ in objective.components():
    out = examples(part, architecture, lengths)
    mode = special_tokens.special_id(vocabulary, f"[{name[0]}]")
    first = out["inputs" if architecture == "encoder_decoder" else "targets"]
    assert (first[:, 0] == mode).all()
    for feature, rows in out.items():
      width = lengths.get(feature, lengths["targets"])
      assert rows.shape[1] == width
    if architecture == "encoder_decoder" and name not in ("S", "X", "R"):
      assert (first[:-1] > 0).mean() > 0.99


def test_sentinels_are_counted_for_every_part(vocabulary):
  few = vocabularies.sentencepiece(extra_ids=100)
  lengths = UL2().lengths({"inputs": 512}, "encoder_decoder")
  UL2().check(token_ids.of(vocabulary), lengths, "encoder_decoder")
  with pytest.raises(ValueError, match="has 100 sentinels"):
    UL2().check(token_ids.of(few), lengths, "encoder_decoder")
  with pytest.raises(ValueError, match="NLU"):
    other = UL2(modes=("[NLU]", "[S2S]", "[NLG]"))
    other.check(token_ids.of(vocabulary), lengths, "encoder_decoder")


def test_drawn_means_of_the_short_reading(examples, vocabulary):
  parts = {name: part for name, part, _ in UL2Short().components()}
  out = examples(parts["X"], "encoder_decoder", {"inputs": 128})
  sentinels = special_tokens.sentinel_ids(vocabulary)
  spans = np.isin(out["targets"][:-1], sentinels).sum(axis=1)
  hidden = (out["targets"][:-1] > 0).sum(axis=1) - spans - 1
  assert len(set(hidden)) == 1
  means = hidden / spans
  assert means.min() >= 11 and means.max() > 50
