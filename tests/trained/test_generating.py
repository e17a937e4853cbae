"""Continuations: what a model writes is what one run of it on each text says."""

import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.inference.choice import Choice
from tests.trained.random_models import favouring, log_probabilities, trained

TEXTS = ["import os", "def f(x): return", "x"]


def check_greedy(model, generated, features, read):
  """Asserts that each token is the likeliest one after those before it."""
  row = [*read, *generated.tokens[:-1].tolist()]
  logs = log_probabilities(model, **features, decoder_input_tokens=row)[len(read) - 1 :]
  logs[:, 0] = -np.inf  # Padding is never written.
  assert generated.tokens.tolist() == logs.argmax(-1).tolist()
  np.testing.assert_allclose(generated.log_probabilities, logs.max(-1), rtol=1e-3, atol=1e-4)
  assert generated.finished == (generated.tokens[-1] == 1)


@pytest.mark.slow
def test_a_decoder_continues_texts_of_different_lengths():
  model = trained("decoder_only", "causal_lm", positions="learned", max_length=14)
  for text, generated in zip(TEXTS, model.generate(TEXTS, max_new_tokens=12), strict=True):
    ids = model.codec.encode(text)
    check_greedy(model, generated, {}, [0, *ids])
    # A row ends with the last position, whose token is read by none.
    assert len(generated.tokens) == min(12, 14 - len(ids)) or generated.finished
    shown = [i for i in generated.tokens.tolist() if i not in model.codec.marks]
    assert generated.text == model.codec.decode_visible(shown)


@pytest.mark.slow
def test_an_encoder_decoder_answers():
  model = favouring(trained("encoder_decoder", "my_task", head_bias=True), _1=2.0)
  for text, generated in zip(TEXTS, model.generate(TEXTS, max_new_tokens=6), strict=True):
    inputs = {"encoder_input_tokens": [*model.codec.encode(text), 1]}
    check_greedy(model, generated, inputs, [0])


@pytest.mark.slow
def test_a_prefix_is_read_in_both_directions():
  model = trained("decoder_only", {"objective": "prefix_lm", "mode": "[S]"})
  (generated,) = model.generate("def f(x):", max_new_tokens=4)
  read = [0, model.codec.special_id("[S]"), *model.codec.encode("def f(x):")]
  prefix = [1] * len(read) + [0] * (len(generated.tokens) - 1)
  check_greedy(model, generated, {"decoder_causal_attention": prefix}, read)


@pytest.mark.slow
def test_a_search_returns_its_candidates():
  model = trained("decoder_only", "causal_lm")
  (generated,) = model.generate("import", max_new_tokens=4, choice=Choice(beams=3))
  assert len(generated.others) == 2
  scores = [x.log_probability / len(x.tokens) for x in (generated, *generated.others)]
  assert scores == sorted(scores, reverse=True)
  (greedy,) = model.generate("import", max_new_tokens=4)
  assert generated.log_probability >= greedy.log_probability - 1e-4 and not greedy.others


@pytest.mark.slow
def test_draws_depend_on_the_seed():
  model = trained("decoder_only", "causal_lm")

  def drawn(seed):
    choice = Choice(temperature=1.0)
    return [x.text for x in model.generate(TEXTS, max_new_tokens=8, choice=choice, seed=seed)]

  assert drawn(3) == drawn(3) != drawn(4)


@pytest.mark.slow
def test_masked_diffusion_writes_after_the_text():
  model = favouring(trained("encoder_only", "masked_diffusion", head_bias=True), _1=1.0)
  for text, generated in zip(TEXTS, model.generate(TEXTS, max_new_tokens=7, steps=3), strict=True):
    ends = np.flatnonzero(generated.tokens == 1)
    assert len(generated.tokens) == (ends[0] + 1 if len(ends) else 7), text
    assert generated.finished == bool(len(ends))
    assert model.codec.special_id("[MASK]") not in generated.tokens
    assert (generated.log_probabilities < 0).all()


def test_mistakes():
  causal = trained("decoder_only", "causal_lm", positions="learned", max_length=8)
  with pytest.raises(UserError, match=r"texts\[1\]: The text is too long: it has 21 tokens"):
    causal.generate(["a", "0 " * 10])
  with pytest.raises(UserError, match="max_new_tokens = 0 must be 1 or more"):
    causal.generate("a", max_new_tokens=0)
  with pytest.raises(UserError, match="put a hole at its end"):
    trained("encoder_decoder", "span_corruption").generate("a")
  with pytest.raises(UserError, match="leave out beams, top_k and top_p"):
    trained("encoder_only", "masked_diffusion").generate("a", choice=Choice(beams=2))
