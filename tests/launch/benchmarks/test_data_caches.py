"""The benchmark of token caches measures a run that resumes late, and objectives in both forms."""

import itertools

import numpy as np
import pytest

from launch.benchmarks import data_caches
from t5x_style.data.tokenizers import vocabularies
from t5x_style.data.tokenizers.base import codec_of

TOKENS = [np.arange(300, 900), np.arange(900, 1900)]


@pytest.mark.slow
def test_a_run_resumes_at_the_step(monkeypatch, tmp_path):
  taken = {}

  def rates(batches, count):
    batch = next(batches)
    taken[len(taken)] = batches.get_state(), count(batch)
    return {"rows_per_second": 1.0}

  monkeypatch.setattr(data_caches, "rates", rates)
  rows = list(
    data_caches.on_cache(
      TOKENS, codec_of(vocabularies.sentencepiece()), tmp_path / "cache", 500_000
    )
  )
  assert [row["label"] for row in rows] == list(data_caches.CASES)
  assert all(row["seconds_to_first"] > 0 for row in rows)
  windows, packed, causal = (taken[i] for i in range(3))
  for state, _ in taken.values():
    (place,) = state.values()
    assert b'"batch": 20002' in place  # one for the time until it, one for `rates`
  # Windows of 568 and of 1024 tokens, without their few EOS; a packed row holds less.
  assert 560 * 128 < windows[1] <= 568 * 128 and 1010 * 128 < causal[1] <= 1024 * 128
  assert 400 * 128 < packed[1] < windows[1]


@pytest.mark.slow
def test_both_forms_of_each_objective_are_measured(monkeypatch):
  monkeypatch.setattr(data_caches, "_SECONDS", 0.01)
  rows = list(data_caches.alone(TOKENS, codec_of(vocabularies.sentencepiece())))
  names = itertools.product(data_caches.ALONE, ("NumPy", "TensorFlow"))
  assert [row["label"] for row in rows] == [", ".join(name) for name in names]
  assert all(row["tokens_per_second"] > 0 for row in rows)
