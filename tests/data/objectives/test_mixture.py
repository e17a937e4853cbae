"""Mixtures: rates, temperature, names, and parts that do not fit together."""

import numpy as np
import pytest

from t5x_style.data import loader
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.mixture import Mixture
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.objectives.ul2 import UL2, UL2Short
from t5x_style.data.preview import measure
from t5x_style.data.tokenizers import token_ids


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
    mixture = Mixture([CausalLM(), MaskedLM()])
    mixture.check(token_ids.of(vocabulary), {"targets": 8}, "decoder_only")
  with pytest.raises(ValueError, match="different name"):
    Mixture([CausalLM(), PrefixLM()], names=["a", "a"]).components()


def test_the_identity_names_the_parts():
  described = Mixture([CausalLM(), PrefixLM(suffix_share=0.25)], [1, 2]).identity()
  assert described["objectives"][1] == {
    "objective": "prefix_lm",
    "suffix_share": 0.25,
    "mode": None,
  }


@pytest.mark.parametrize(
  "architecture", ["encoder_decoder", pytest.param("decoder_only", marks=pytest.mark.slow)]
)
def test_a_budget_shortens_the_rows_of_one_component(architecture, corpus, vocabulary):
  feature = "targets" if architecture == "decoder_only" else "inputs"
  objective = Mixture(
    [SpanCorruption(), PrefixLM(budget={feature: 48})], names=("long", "short"), rates=(1, 1)
  )
  dataset = loader.load(
    architecture,
    8,
    0,
    corpus=corpus,
    vocabulary=vocabulary,
    objective=objective,
    feature_lengths={feature: 128},
    shuffle_buffer_size=8,
  )
  assert dataset.pipeline.lengths[feature] == 128
  batches = dataset.train()
  rows = [next(batches) for _ in range(8)]
  side = "encoder" if architecture == "encoder_decoder" else "decoder"
  tokens = np.concatenate([b[f"{side}_input_tokens"] for b in rows])
  ids = np.concatenate([b["decoder_component_ids"] for b in rows]).max(axis=1)
  longest = (tokens > 0).sum(axis=1)
  short = dataset.component_names.index("short")
  assert (tokens.shape[1], longest[ids != short].max()) == (128, 128 - (side == "decoder"))
  assert 0 < longest[ids == short].max() <= 48
  parts = {part.name: part for part in measure.preview(dataset, rows=64, seconds=20).components}
  assert parts["short"].values()["raw_tokens"] <= 48
  assert parts["short"].values()["packing_density"] < 0.6


@pytest.mark.parametrize("objective", [UL2, UL2Short])
def test_budgets_of_ul2(objective):
  lengths = {
    name: part.own_lengths({"inputs": 512}, "encoder_decoder")["inputs"]
    for name, part, _ in objective(budgets={"X": {"inputs": 256}}).components()
  }
  assert {n: x for name, x in lengths.items() if (n := name[0])} == {"R": 512, "S": 512, "X": 256}
  with pytest.raises(ValueError, match="names 'Y'; its denoisers are"):
    objective(budgets={"Y": {"inputs": 256}}).components()


def test_a_budget_beyond_the_row_is_refused():
  mixture = Mixture([SpanCorruption(), PrefixLM(budget={"inputs": 600})])
  with pytest.raises(ValueError, match="of the component prefix_lm is more than TASK_FEATURE_LEN"):
    mixture.lengths({"inputs": 512}, "encoder_decoder")
