"""Masked diffusion: t uniform, masks at rate t, weights 1/t on what is hidden."""

import numpy as np
import pytest

from t5x_style.data.objectives.masked_diffusion import MaskedDiffusion
from t5x_style.data.tokenizers import special_tokens, token_ids


def test_masks_and_weights(examples, cut, vocabulary):
  out = examples(MaskedDiffusion(), "encoder_only", {"inputs": 64})
  mask = special_tokens.special_id(vocabulary, "[MASK]")
  hidden = out["inputs"] == mask
  for row, window in zip(out["targets"], cut(64), strict=False):
    assert row[row > 0].tolist() == window.tolist()
  assert (np.where(hidden, out["targets"], out["inputs"]) == out["targets"]).all()
  assert ((out["loss_weights"] > 0) == hidden).all()
  weights = out["loss_weights"]
  assert all(len(set(row[row > 0])) <= 1 for row in weights)  # one t a window
  assert weights.max() <= 1000 and weights[weights > 0].min() >= 1


def test_the_share_hidden_is_uniform(examples):
  out = examples(MaskedDiffusion(), "encoder_only", {"inputs": 64})
  share = (out["loss_weights"][:-1] > 0).mean(axis=1)
  n = len(share)
  assert abs(share.mean() - 0.5) < 3.5 / np.sqrt(12 * n)
  assert (np.histogram(share, bins=4, range=(0, 1.0001))[0] > n / 4 - 4 * np.sqrt(n * 3 / 16)).all()


def test_weights_sum_to_the_length_on_average(examples):
  sums = [
    examples(MaskedDiffusion(least=0.05), "encoder_only", {"inputs": 64}, epoch=epoch)[
      "loss_weights"
    ][:-1].sum(axis=1)
    for epoch in range(2)
  ]
  sums = np.concatenate(sums)
  assert abs(sums.mean() - 64) < 3.5 * sums.std() / np.sqrt(len(sums))


def test_errors(vocabulary):
  with pytest.raises(ValueError, match="least = 0 is outside"):
    lengths = {"inputs": 8, "targets": 8}
    MaskedDiffusion(least=0).check(token_ids.of(vocabulary), lengths, "encoder_only")
