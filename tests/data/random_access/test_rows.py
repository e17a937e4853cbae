"""Rows are functions of their numbers; every document comes once an epoch."""

import numpy as np
import pytest

from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.mixture import Mixture
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.objectives.span_corruption import SpanCorruption

MIXTURE = Mixture([SpanCorruption(), PrefixLM(budget={"inputs": 32})], [3, 1])


@pytest.mark.parametrize(
  "architecture, objective",
  [("encoder_decoder", MIXTURE), ("decoder_only", CausalLM()), ("encoder_only", MaskedLM())],
)
def test_any_rows_are_what_they_are_in_a_batch(load, architecture, objective):
  rows = load(architecture, objective).rows
  whole = rows.features(np.arange(100))
  chosen = np.array([70, 3, 99, 3, 50])
  some = rows.features(chosen)
  assert some.keys() == whole.keys()
  for name, value in whole.items():
    np.testing.assert_array_equal(some[name], value[chosen], err_msg=name)


def test_components_of_a_mixture_have_their_shares_numbers_and_lengths(load):
  data = load("encoder_decoder", MIXTURE)
  assert data.component_names == ("prefix_lm", "span_corruption")
  features = data.rows.features(np.arange(640))
  components = features["decoder_component_ids"][:, 0]
  assert np.bincount(components).tolist() == [160, 480]
  shorter = features["encoder_input_tokens"][components == 0]
  assert shorter[:, :32].any() and not shorter[:, 33:].any()
  assert features["encoder_input_tokens"][components == 1][:, 33:].any()


@pytest.mark.parametrize("pack", [pytest.param(False, marks=pytest.mark.slow), True])
def test_each_window_of_each_document_comes_once_an_epoch(load, documents, pack):
  objective = SpanCorruption(cross_documents=False)
  rows = load("encoder_decoder", objective, pack=pack).rows
  component = rows.components[0]
  count = component.examples.count
  for epoch in range(2):
    places = rows.places(np.arange(epoch * count, (epoch + 1) * count))
    assert {place.epoch for place in places} == {epoch}
    seen = [np.zeros(len(document), int) for document in documents]
    for place in places:
      for member in rows.members(place):
        seen[member.document][member.start : member.end] += 1
    for document, times in zip(documents, seen, strict=True):
      assert (times == (len(document) >= 2)).all()
  if pack:
    assert component.examples.plan.filled > 0.8


def test_orders_and_noise_differ_between_epochs_and_seeds(load):
  rows = load("decoder_only", CausalLM()).rows
  count = rows.components[0].examples.count
  first = rows.features(np.arange(10))["decoder_target_tokens"]
  later = rows.features(count + np.arange(10))["decoder_target_tokens"]
  other = load("decoder_only", CausalLM(), seed=1).rows.features(np.arange(10))
  assert not np.array_equal(first, later)
  assert not np.array_equal(first, other["decoder_target_tokens"])
