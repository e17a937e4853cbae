"""The function for notebooks: texts in, model features out."""

import numpy as np
import pytest

from t5x_style.data.notebook import corrupt
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.mixture import Mixture
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.objectives.span_corruption import SpanCorruption

TEXTS = ["def area(radius):\n  return 3.14159 * radius * radius\n" * 10, "", b"\xff bytes"]


def test_rows_of_a_list_of_strings(vocabulary):
  out = corrupt(TEXTS, SpanCorruption(), vocabulary, {"inputs": 64})
  assert out["encoder_input_tokens"].shape[1] == 64
  assert set(out) == {
    "encoder_input_tokens",
    "decoder_input_tokens",
    "decoder_target_tokens",
    "decoder_loss_weights",
  }
  again = corrupt(TEXTS, SpanCorruption(), vocabulary, {"inputs": 64})
  later = corrupt(TEXTS, SpanCorruption(), vocabulary, {"inputs": 64}, epoch=1)
  assert all(np.array_equal(out[name], again[name]) for name in out)
  assert not np.array_equal(out["encoder_input_tokens"], later["encoder_input_tokens"])


def test_architecture_and_errors(vocabulary):
  row = corrupt(TEXTS, SpanCorruption(), vocabulary, {"targets": 64}, "decoder_only")
  assert row["decoder_causal_attention"].any()
  with pytest.raises(ValueError, match="no row"):
    corrupt([""], MaskedLM(), vocabulary, {"inputs": 64})
  with pytest.raises(ValueError, match="feeds encoder_only models"):
    corrupt(TEXTS, MaskedLM(), vocabulary, {"inputs": 64}, "decoder_only")


def test_rows_of_a_mixture_are_those_of_its_parts(vocabulary):
  parts = (SpanCorruption(), PrefixLM())
  mixed = Mixture(objectives=parts, rates=(3, 1))
  lengths = mixed.lengths({"inputs": 64}, "encoder_decoder")
  out = corrupt(TEXTS[:1] * 8, mixed, vocabulary, lengths)
  components = out["decoder_component_ids"][:, 0]
  assert set(components) == {0, 1}
  assert (components == 0).sum() > (components == 1).sum()
  single = corrupt(TEXTS[:1] * 8, parts[0], vocabulary, lengths)["encoder_input_tokens"]
  drawn = out["encoder_input_tokens"][components == 0]
  np.testing.assert_array_equal(drawn, single[: len(drawn)])
