"""Evaluation: the same values and less memory in microbatches."""

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
