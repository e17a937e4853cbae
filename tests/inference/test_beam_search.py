"""Beam search against an enumeration of all texts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.inference.choice import Choice
from t5x_style.inference.generation import generate
from t5x_style.models import Transformer, TransformerConfig

VOCABULARY, LONGEST = 5, 3


@pytest.fixture(scope="module")
def model_and_params():
  model = Transformer(
    TransformerConfig(
      vocab_size=VOCABULARY, emb_dim=8, num_heads=2, head_dim=4, mlp_dim=8, num_decoder_layers=1
    )
  )
  batch = {"decoder_input_tokens": jnp.ones((1, 2), jnp.int32)}
  return model, jax.jit(model.init)(jax.random.key(5), batch)["params"]


def all_texts(model, params, prompt):
  """Returns {text: sum of its log-probabilities} of all that end with 1, or with LONGEST tokens."""
  rows = list(itertools.product(range(1, VOCABULARY), repeat=LONGEST))  # 0 is padding.
  tokens = jnp.array([[*prompt, *row][:-1] for row in rows])
  logits = model.apply({"params": params}, {"decoder_input_tokens": tokens}).logits()
  logs = np.asarray(jax.nn.log_softmax(logits))[:, len(prompt) - 1 :]
  found = {}
  for row, of_row in zip(rows, logs, strict=True):
    text = row[: row.index(1) + 1] if 1 in row else row
    found[text] = float(of_row[np.arange(len(text)), np.array(text)].sum())
  return found


@pytest.mark.parametrize(
  "penalty", [0.0, *(pytest.param(x, marks=pytest.mark.slow) for x in (1.0, 2.5))]
)
def test_a_search_as_wide_as_the_vocabulary_finds_the_best_text(model_and_params, penalty):
  """With as many candidates as there are beginnings nothing is lost on the way."""
  model, params = model_and_params
  prompts = [[0], [0, 3, 4]]
  choice = Choice(beams=VOCABULARY ** (LONGEST - 1), length_penalty=penalty)
  found = generate(model, params, prompts, max_new_tokens=LONGEST, choice=choice)
  for prompt, best in zip(prompts, found, strict=True):
    texts = all_texts(model, params, prompt)
    ranked = sorted(texts, key=lambda text: texts[text] / len(text) ** penalty, reverse=True)
    assert tuple(best.tokens.tolist()) == ranked[0]
    assert best.finished == (ranked[0][-1] == 1)
    assert best.log_probability == pytest.approx(texts[ranked[0]], abs=1e-5)
    # The candidates are different texts with their own probabilities, the best first.
    scores = []
    for other in (best, *best.others):
      text = tuple(other.tokens.tolist())
      assert other.log_probability == pytest.approx(texts[text], abs=1e-5)
      scores.append(texts[text] / len(text) ** penalty)
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == len(scores) > 2


def test_a_wider_search_finds_what_greedy_decoding_misses(model_and_params):
  model, params = model_and_params
  prompts = [[0, *prompt] for prompt in itertools.product(range(2, VOCABULARY), repeat=3)]
  greedy = generate(model, params, prompts, max_new_tokens=6)
  searched = generate(
    model, params, prompts, max_new_tokens=6, choice=Choice(beams=4, length_penalty=0.0)
  )
  gains = [b.log_probability - a.log_probability for a, b in zip(greedy, searched, strict=True)]
  assert max(gains) > 0.01
