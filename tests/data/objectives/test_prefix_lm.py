"""Prefix LM: the cut is uniform, and prefix and suffix are the window."""

import numpy as np
import pytest

from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.tokenizers import special_tokens


@pytest.mark.parametrize("mode", [None, "[S]"])
@pytest.mark.parametrize("share", [0.5, 0.25])
def test_encoder_decoder_reversible(share, mode, examples, cut, vocabulary):
  objective = PrefixLM(suffix_share=share, mode=mode)
  out = examples(objective, "encoder_decoder", {"inputs": 65})
  raw = 65 if mode is None else 64
  front = [] if mode is None else [special_tokens.special_id(vocabulary, mode)]
  for inputs, targets, window in zip(out["inputs"], out["targets"], cut(raw), strict=False):
    inputs, targets = inputs[inputs > 0].tolist(), targets[targets > 0].tolist()
    assert inputs[: len(front)] == front
    assert inputs[-1] == targets[-1] == vocabulary.eos_id
    prefix = inputs[len(front) : -1]
    assert prefix and len(targets) > 1
    assert prefix + targets[:-1] == window.tolist()


@pytest.mark.parametrize("mode", [None, "[S]"])
def test_decoder_only_reads_the_prefix_both_ways(mode, examples, cut, vocabulary):
  out = examples(PrefixLM(mode=mode), "decoder_only", {"targets": 64})
  front = 0 if mode is None else 1
  for row, weights, attention, window in zip(
    out["targets"], out["loss_weights"], out["causal_attention"], cut(63 - front), strict=False
  ):
    assert row[row > 0][front:].tolist() == [*window, vocabulary.eos_id]
    prefix = int(np.argmax(weights))
    assert prefix > front
    assert weights.sum() == (row > 0).sum() - prefix
    assert attention.tolist() == [1] * (prefix + 1) + [0] * (63 - prefix)


def test_the_cut_is_uniform(examples):
  splits = []
  for epoch in range(8):
    out = examples(PrefixLM(), "decoder_only", {"targets": 17}, epoch=epoch)
    splits.append(out["loss_weights"][:-1].argmax(axis=1))
  splits = np.concatenate(splits)
  counts = np.bincount(splits, minlength=17)
  assert counts[0] == counts[16] == 0
  n, p = len(splits), 1 / 15  # 16 raw tokens: 1 to 15
  assert n > 50_000
  assert abs(counts[1:16] - n * p).max() < 4.5 * np.sqrt(n * p * (1 - p))


def test_the_mean_suffix_of_ul2(examples):
  out = examples(PrefixLM(suffix_share=0.25), "encoder_decoder", {"inputs": 100})
  suffix = (out["targets"][:-1] > 0).sum(axis=1) - 1
  assert suffix.min() >= 1 and suffix.max() <= 49
  assert abs(suffix.mean() - 25) < 3.5 * 14.1 / np.sqrt(len(suffix))


def test_lengths_and_errors():
  assert PrefixLM().lengths({"inputs": 512}, "encoder_decoder") == {"inputs": 512, "targets": 512}
  assert PrefixLM(suffix_share=0.25).lengths({"inputs": 512}, "encoder_decoder")["targets"] == 256
  with pytest.raises(ValueError, match="set it to 512"):
    PrefixLM().lengths({"inputs": 512, "targets": 100}, "encoder_decoder")
  with pytest.raises(ValueError, match=r"suffix_share = 0.7 is outside \(0, .5\]"):
    PrefixLM(suffix_share=0.7).lengths({"inputs": 512}, "encoder_decoder")
