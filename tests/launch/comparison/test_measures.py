"""Measures of models with random parameters, against sums over the scores of the model."""

import math

import numpy as np
import pytest

from launch.comparison import measures, passages
from t5x_style.trained.multiple_choice import Ranked
from tests.launch.comparison.test_passages import documents
from tests.trained.random_models import shipped_codec, trained


@pytest.fixture(scope="module")
def asked():
  return passages.cut(
    documents(), [shipped_codec()], row_tokens=28, count=16, passage_bytes=100, seed=0
  )


def test_completion_is_the_bits_of_all_second_halves_over_their_bytes(asked):
  model = trained("decoder_only", "causal_lm")
  found = measures.completion(model, asked)
  wholes = model.score([x.text for x in asked])
  firsts = model.score([x.text[: x.half] for x in asked])
  bits = np.array([(b.total - a.total) / math.log(2) for a, b in zip(wholes, firsts, strict=True)])
  sizes = np.array([len(x.text[x.half :].encode()) for x in asked])
  assert found.value == pytest.approx(bits.sum() / sizes.sum(), rel=1e-4)
  left_out = [np.delete(bits, i).sum() / np.delete(sizes, i).sum() for i in range(len(bits))]
  jackknife = math.sqrt(15 / 16 * np.square(left_out - np.mean(left_out)).sum())
  assert found.standard_error == pytest.approx(jackknife, rel=0.2)
  assert found.count == 16


def ranked(scores, greedy=False):
  return Ranked(np.array(scores, float), np.full(len(scores), greedy))


def test_choice_of_four_needs_the_own_content_to_gain_most():
  knows = [ranked(row) for row in 10 * np.array([9.0, 0, -9, 1]) + np.eye(4)]
  reverse = [ranked(row) for row in np.eye(4)[::-1]]
  guesses = [ranked([3.0, 2, 1, 0])] * 4
  found = measures.choice_of_four([*knows, *reverse, *guesses, *knows], "how")
  assert found.value == 0.5 and found.count == 16
  assert found.standard_error == pytest.approx(np.std([1, 0, 0, 1], ddof=1) / 2)
  assert found.method.endswith("how")


@pytest.mark.slow
def test_a_random_model_guesses(asked):
  many = passages.cut(
    documents(200), [shipped_codec()], row_tokens=28, count=80, passage_bytes=90, seed=3
  )
  found = measures.of_passages(trained("decoder_only", "causal_lm"), many)
  assert 0.1 < found["choice_of_four"].value < 0.4
  assert 0.35 < found["pairs"].value < 0.65
  assert found["infilling"].value == 0


@pytest.mark.slow
def test_pairs_count_the_texts_with_the_higher_score(asked):
  model = trained("encoder_only", "masked_lm")
  pairs = [(x.good, x.bad) for x in asked]
  found = measures.of_pairs(model, pairs, "pairs")
  right = [model.score(good)[0].total > model.score(bad)[0].total for good, bad in pairs[:4]]
  assert [measures.of_pairs(model, [pair], "").value for pair in pairs[:4]] == right
  assert found.value * 16 == round(found.value * 16) and found.count == 16
  assert measures.of_pairs(model, [("same", "same")], "").value == 0


@pytest.mark.parametrize(
  "architecture, objective, reason",
  [
    ("encoder_decoder", "span_corruption", "span_corruption does not teach how a text continues"),
    ("encoder_only", "masked_lm", "masked_lm does not teach how a text continues"),
    ("encoder_decoder", "text_to_text", "text_to_text does not teach"),
  ],
)
def test_what_is_not_defined_has_no_value(asked, architecture, objective, reason):
  found = measures.completion(trained(architecture, objective), asked)
  assert found.value is None and reason in found.reason


def test_models_that_answer_have_reasons_only(asked):
  found = measures.of_passages(trained("encoder_decoder", "text_to_text"), asked)
  assert {x.value for name, x in found.items() if name != "pairs"} == {None}
  assert "not trained to fill holes" in found["infilling"].reason
