"""Both objectives of sentence pairs mask an exact share of a row."""

import numpy as np
import pytest

from t5x_style.data.objectives.next_sentence import NextSentence
from t5x_style.data.objectives.sentence_order import SentenceOrder

OBJECTIVES = [NextSentence(), SentenceOrder()]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_masks(objective, examples, numbered, vocabulary):
  out = examples(objective, "encoder_only", {"inputs": 43}, docs=numbered)
  chosen = out["loss_weights"] > 0
  counts = chosen.sum(axis=1)
  assert set(counts) <= {6, 3} and counts.max() == 6  # 15 % of 40, of 20
  assert objective.max_targets({"inputs": 43}, "encoder_only") == 6
  assert (np.where(chosen, out["targets"], out["inputs"]) == out["targets"]).all()
