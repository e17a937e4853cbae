"""Scores of what may be in a hole, against whole rows of log-probabilities of the same model."""

import numpy as np
import pytest

from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.errors import UserError
from t5x_style.inference.choice import Choice
from t5x_style.trained import multiple_choice
from t5x_style.trained.multiple_choice import Question
from tests.trained.random_models import favouring, log_probabilities, shipped_codec, trained

QUESTION = Question("import os\nfrom ", " import x\n", ("re", "json", "collections.abc"))
BEFORE, AFTER = "import os\nfrom", " import x\n"  # as tokens; a space belongs to the word after it


def ids(text):
  return shipped_codec().encode(text)


def special(name):
  return shipped_codec().special_id(name)


def choices():
  return [ids(f" {text}") for text in QUESTION.choices]


def written(model, read, wanted, **features):
  """The log-probabilities of what a decoder writes after it read something."""
  row = [*read, *wanted[:-1]]
  table = log_probabilities(model, decoder_input_tokens=row, **features)
  return [table[len(read) - 1 + i, token] for i, token in enumerate(wanted)]


def causal(model, choice):
  return written(model, [0, *ids(BEFORE)], [*choice, *ids(AFTER)])


def prefix_lm(model, choice):
  read = [0, *ids(BEFORE)]
  wanted = [*choice, *ids(AFTER)]
  ones = [1] * len(read) + [0] * (len(wanted) - 1)
  return written(model, read, wanted, decoder_causal_attention=ones)


def prefix_lm_of_two_sides(model, choice):
  mode = special("[S]")
  inputs = [mode, *ids(BEFORE), 1]
  return written(model, [0], [*choice, *ids(AFTER)], encoder_input_tokens=inputs)


def spans(model, choice):
  sentinel = int(shipped_codec().sentinel_ids[0])
  inputs = [*ids(BEFORE), sentinel, *ids(AFTER), 1]
  return written(model, [0, sentinel], [*choice, 1], encoder_input_tokens=inputs)


def spans_with_mode(model, choice):
  sentinel = int(shipped_codec().sentinel_ids[0])
  inputs = [special("[R]"), *ids(BEFORE), sentinel, *ids(AFTER), 1]
  return written(model, [0, sentinel], [*choice, 1], encoder_input_tokens=inputs)


def spans_of_a_decoder(model, choice):
  sentinel = int(shipped_codec().sentinel_ids[0])
  read = [0, special("[R]"), *ids(BEFORE), sentinel, *ids(AFTER), 1]
  ones = [1] * len(read) + [0] * (1 + len(choice))
  row = [sentinel, *choice, 1]
  return written(model, read, row, decoder_causal_attention=ones)[1:]


def infilling(model, choice):
  inputs = [*ids(BEFORE), special("[MASK]"), *ids(AFTER), 1]
  wanted = [*choice, *ids(AFTER), 1]
  return written(model, [0, *ids(BEFORE)], wanted, encoder_input_tokens=inputs)


def middle(model, choice):
  pre, suf, mid = map(special, ("[PRE]", "[SUF]", "[MID]"))
  return written(model, [0, pre, *ids(BEFORE), suf, *ids(AFTER), mid], [*choice, 1])


def masked(model, choice, first=("[CLS]",), last=("[SEP]",)):
  start = [*map(special, first), *ids(BEFORE)]
  found = []
  for i, token in enumerate(choice):
    hole = [*choice[:i], *[special("[MASK]")] * (len(choice) - i)]
    row = [*start, *hole, *ids(AFTER), *map(special, last)]
    found.append(log_probabilities(model, encoder_input_tokens=row)[len(start) + i, token])
  return found


def diffusion(model, choice):
  return masked(model, choice, (), ())


R, S = {"objective": "span_corruption", "mode": "[R]"}, {"objective": "prefix_lm", "mode": "[S]"}
CASES = [
  ("decoder_only", ["causal_lm"], causal),
  pytest.param("decoder_only", ["prefix_lm"], prefix_lm, marks=pytest.mark.slow),
  pytest.param("encoder_decoder", [S], prefix_lm_of_two_sides, marks=pytest.mark.slow),
  ("encoder_decoder", ["span_corruption"], spans),
  pytest.param("encoder_decoder", [S, R], spans_with_mode, marks=pytest.mark.slow),
  pytest.param("decoder_only", [R, S], spans_of_a_decoder, marks=pytest.mark.slow),
  pytest.param("encoder_decoder", ["text_infilling"], infilling, marks=pytest.mark.slow),
  pytest.param("decoder_only", ["fill_in_middle"], middle, marks=pytest.mark.slow),
  ("encoder_only", ["masked_lm"], masked),
  pytest.param("encoder_only", ["masked_diffusion"], diffusion, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("architecture, objectives, expected", CASES)
def test_scores_are_the_log_probabilities_of_a_row_as_in_training(
  architecture, objectives, expected
):
  model = trained(architecture, *objectives)
  (ranked,) = multiple_choice.rank(model, [QUESTION])
  found = [expected(model, choice) for choice in choices()]
  np.testing.assert_allclose(ranked.scores, [sum(x) for x in found], rtol=0, atol=2e-4)
  assert len(set(np.round(ranked.scores, 3))) == 3
  assert multiple_choice.how(model)


@pytest.mark.slow
def test_differences_of_a_decoders_scores_are_those_of_the_whole_text():
  model = trained("decoder_only", "causal_lm")
  (ranked,) = multiple_choice.rank(model, [QUESTION])
  texts = [f"{QUESTION.before}{choice}{QUESTION.after}" for choice in QUESTION.choices]
  totals = np.array([score.total for score in model.score(texts)])
  np.testing.assert_allclose(ranked.scores - ranked.scores[0], totals - totals[0], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
  "architecture, objective",
  [("encoder_decoder", "span_corruption"), ("encoder_only", "masked_lm")],
)
def test_greedy_is_what_fill_writes(architecture, objective):
  (wanted,) = ids(" re")
  model = favouring(trained(architecture, objective, head_bias=True), **{f"_{wanted}": 9.0})
  filled = model.fill(f"{QUESTION.before}[MASK]{QUESTION.after}", candidates=1, choice=Choice())
  assert filled[0].holes[0][0].tokens[0] == wanted
  (ranked,) = multiple_choice.rank(model, [QUESTION])
  assert ranked.greedy.tolist() == [True, False, False]


def test_a_choice_is_tokenised_in_its_place():
  codec = shipped_codec()
  split = multiple_choice.split(codec, QUESTION)
  assert split.before == ids(BEFORE) and split.after == ids(AFTER)
  assert split.choices == choices()
  # Choices that begin or end alike keep these tokens, which the text around the hole lacks.
  alike = multiple_choice.split(codec, Question("a = ", " + b", ("x.y", "x.z.y")))
  assert [codec.decode(x) for x in alike.choices] == ["x.y", "x.z.y"]
  # One that repeats the text around it is no longer or shorter.
  twice = multiple_choice.split(ByteCodec(8), Question("aa", "aa", ("a", "aa")))
  assert list(map(len, twice.choices)) == [1, 2] and len(twice.before) == len(twice.after) == 2


def test_gains_cancel_what_a_model_thinks_of_a_choice_whatever_is_around_it():
  rows = np.array([0.0, -3.0, 7.0, 1.0])[:, None]
  choices = np.array([5.0, 0.0, -9.0, 2.0])[None]
  fits = np.eye(4)[[1, 0, 3, 2]]  # hole 0 likes choice 1 ...
  assert multiple_choice.matched(rows + choices + fits).tolist() == [1, 0, 3, 2]
  assert multiple_choice.matched(np.zeros((4, 4))).tolist() == [-1] * 4


def test_models_and_texts_that_cannot_be_ranked_are_refused():
  for architecture, objective in (
    ("encoder_only", "classification"),
    ("encoder_decoder", "text_to_text"),
    ("decoder_only", "text_to_text"),
  ):
    with pytest.raises(UserError, match="not trained to fill holes or to continue texts"):
      multiple_choice.rank(trained(architecture, objective), [QUESTION])
  short = trained("decoder_only", "causal_lm", positions="learned", max_length=8)
  with pytest.raises(UserError, match=r"questions\[0\] needs a row of \d+ tokens"):
    multiple_choice.rank(short, [QUESTION])
  with pytest.raises(UserError, match="'' has no token of its own"):
    multiple_choice.rank(
      trained("decoder_only", "causal_lm"), [Question("import os", " as x", (".y", ""))]
    )
  with pytest.raises(UserError, match="no choices"):
    multiple_choice.rank(trained("decoder_only", "causal_lm"), [Question("a", "b", ())])
