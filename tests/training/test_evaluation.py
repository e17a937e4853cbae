"""Evaluation: the same values and less memory in microbatches."""

import numpy as np
import pytest

from t5x_style.training import evaluation, setup
from t5x_style.training.step import compile_step


def test_evaluation_uses_microbatches(tiny_config, tmp_path):
  """A run that fits in memory only with microbatches must not fail at its first evaluation."""
  values, temporaries = [], []
  for parts in (1, 8):
    prepared = setup.prepare(
      tiny_config("decoder_only", tmp_path, batch_size=64, num_microbatches=parts)
    )
    batches = list(prepared.dataset.evaluation(2))
    values.append(evaluation.make_evaluate(prepared)(prepared.init(0).params, batches))
    compiled = evaluation.compile_evaluation(prepared)
    temporaries.append(compiled.memory_analysis().temp_size_in_bytes)
    step = compile_step(prepared).memory_analysis()
    assert temporaries[-1] <= step.temp_size_in_bytes
  assert values[0] == pytest.approx(values[1], rel=1e-5)
  assert temporaries[1] < temporaries[0] / 4


def test_the_entropy_of_labels_counts_rows_with_a_label():
  weights = np.zeros((5, 3), np.float32)
  weights[:4, 0] = 1
  batch = {
    "encoder_loss_weights": weights,
    "encoder_target_tokens": np.ones((5, 3), np.int32),
    "pair_labels": np.array([0, 1, 1, 1, 0]),
  }
  expected = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
  assert evaluation.unigram_entropy([batch], "encoder", True) == pytest.approx(expected)
  assert evaluation.unigram_entropy([batch], "encoder") == 0
