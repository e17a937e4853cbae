"""Mixtures: rates, temperature, names, and parts that do not fit together."""

import pytest

from t5x_style.data.causal_lm import CausalLM
from t5x_style.data.masked_lm import MaskedLM
from t5x_style.data.mixture import Mixture
from t5x_style.data.prefix_lm import PrefixLM
from t5x_style.data.span_corruption import SpanCorruption


def test_names_and_rates():
  mixture = Mixture([PrefixLM(), SpanCorruption(), PrefixLM(mode="[S]")], [4, 1, 9], temperature=2)
  assert [(name, rate) for name, _, rate in mixture.components()] == [
    ("prefix_lm_1", 2.0),
    ("span_corruption", 1.0),
    ("prefix_lm_2", 3.0),
  ]
  assert mixture.architectures == ("encoder_decoder", "decoder_only")


def test_lengths_are_those_of_the_longest_part():
  mixture = Mixture([SpanCorruption(), PrefixLM()])
  assert mixture.lengths({"inputs": 512}, "encoder_decoder") == {"inputs": 512, "targets": 512}


def test_errors(vocabulary):
  with pytest.raises(ValueError, match="one positive number for"):
    Mixture([CausalLM(), PrefixLM()], [1]).components()
  with pytest.raises(ValueError, match="feeds  models|feeds"):
    Mixture([CausalLM(), MaskedLM()]).check(vocabulary, {"targets": 8}, "decoder_only")
  with pytest.raises(ValueError, match="different name"):
    Mixture([CausalLM(), PrefixLM()], names=["a", "a"]).components()


def test_identity_tells_the_parts():
  described = Mixture([CausalLM(), PrefixLM(suffix_share=0.25)], [1, 2]).describe()
  assert described["objectives"][1] == {
    "objective": "prefix_lm",
    "suffix_share": 0.25,
    "mode": None,
  }
