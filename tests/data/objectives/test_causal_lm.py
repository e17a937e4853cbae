"""Causal LM: full windows of the joined text, documents separate by default."""

import numpy as np
import pytest

from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.tokenizers import token_ids


def test_every_token_once_and_in_order(examples, cut):
  out = examples(CausalLM(), "decoder_only", {"targets": 100})
  for row, window in zip(out["targets"], cut(100), strict=False):
    assert row[row > 0].tolist() == window.tolist()
  assert (out["targets"][:-1] > 0).all()  # density 1


def test_segments_end_after_eos(examples, vocabulary):
  docs = [[10, 11], [12], [13, 14, 15]]
  out = examples(CausalLM(), "decoder_only", {"targets": 6}, docs=docs)
  assert out["targets"].tolist() == [[10, 11, 1, 12, 1, 13], [14, 15, 1, 0, 0, 0]]
  assert out["targets_segment_ids"].tolist() == [[1, 1, 1, 2, 2, 3], [1, 1, 1, 0, 0, 0]]


def test_concat_and_split_has_no_segments(examples):
  out = examples(CausalLM(cross_documents=True), "decoder_only", {"targets": 100})
  assert set(out) == {"targets"}


def test_errors(vocabulary):
  with pytest.raises(ValueError, match=r"TASK_FEATURE_LENGTHS = \{\} has no 'targets'"):
    CausalLM().lengths({}, "decoder_only")
  with pytest.raises(ValueError, match="at least 2"):
    CausalLM().lengths({"targets": 1}, "decoder_only")
  with pytest.raises(ValueError, match="encoder_decoder models there are: .*span_corruption"):
    CausalLM().check(token_ids.of(vocabulary), {"targets": 8}, "encoder_decoder")
  assert np.array_equal(CausalLM().lengths({"inputs": 64}, "decoder_only"), {"targets": 64})
