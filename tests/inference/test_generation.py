"""Many prompts of many lengths: batches, buckets, seeds and mistakes."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.inference.choice import Choice
from t5x_style.inference.decoding import decode
from t5x_style.inference.generation import generate
from t5x_style.models import Transformer
from tests.inference.test_decoding import build, full_logits


def prompts_of(lengths):
  random = np.random.default_rng(0)
  return [[0, *random.integers(3, 48, length)] for length in lengths]


@pytest.mark.slow
def test_a_row_does_not_depend_on_its_batch_and_few_programs_are_compiled():
  model, params, _ = build("llama")
  prompts = prompts_of([0, 30, 3, 14, 15, 22, 1, 9, 40, 2])
  before = decode._cache_size()
  choice = Choice(temperature=0.9, top_p=0.8)
  together = generate(model, params, prompts, max_new_tokens=5, choice=choice, batch_size=4, seed=7)
  # Lengths to 16, 24, 32 and 48; a batch of four rows, one of three in four, and single rows.
  assert decode._cache_size() - before <= 5
  for row in (1, 3, 9):
    (alone,) = generate(
      model, params, [prompts[row]], max_new_tokens=5, choice=choice, seed=7, row_numbers=[row]
    )
    np.testing.assert_array_equal(alone.tokens, together[row].tokens)
  other = generate(model, params, prompts, max_new_tokens=5, choice=choice, batch_size=4, seed=8)
  assert any(not np.array_equal(a.tokens, b.tokens) for a, b in zip(together, other, strict=True))


def test_the_start_of_a_prompt_is_read_both_ways():
  model, params, _ = build("llama")
  prompts = [[0, 5, 6, 7, 8], [0, 9, 10]]
  found = generate(model, params, prompts, max_new_tokens=1, prefix_lm=[3, 2])
  for prompt, prefix, one in zip(prompts, (3, 2), found, strict=True):
    logits = full_logits(model, params, prompt, prefix=prefix)[-1]
    best = int(logits.at[0].set(-np.inf).argmax())
    assert one.tokens.tolist() == [best]
    expected = float(jax.nn.log_softmax(logits)[best])
    assert one.log_probability == pytest.approx(expected, abs=1e-5)
    causal = jax.nn.log_softmax(full_logits(model, params, prompt)[-1])[best]
    assert abs(expected - float(causal)) > 1e-3  # The two differ.


def test_rows_may_have_as_many_tokens_as_the_model_has_positions():
  model, params, _ = build("gpt2")  # 17 positions
  (found,) = generate(model, params, prompts_of([12]), max_new_tokens=5)
  assert len(found.tokens) == 5
  with pytest.raises(UserError, match="13 tokens, and 6 new .* 17 positions.* at most 5 new"):
    generate(model, params, prompts_of([12]), max_new_tokens=6)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"prompts": [[0, 3], []]}, "prompt 1 is empty"),
    ({"max_new_tokens": 0}, "max_new_tokens = 0 must be 1"),
    ({"batch_size": -1}, "batch_size = -1"),
    ({"encoder_inputs": [[3]]}, "decoder_only takes no encoder_inputs"),
  ],
)
def test_mistakes(changes, message):
  model, params, _ = build("llama")
  with pytest.raises(UserError, match=message):
    generate(model, params, **{"prompts": [[0, 3]], **changes})


def test_mistakes_with_an_encoder():
  model, params, inputs = build("bart")
  with pytest.raises(UserError, match="encoder_decoder needs encoder_inputs"):
    generate(model, params, [[0]])
  with pytest.raises(UserError, match="2 prompts have 3 encoder_inputs"):
    generate(model, params, [[0], [0]], encoder_inputs=inputs)
  with pytest.raises(UserError, match="encoder input 0 has 18 tokens; the model has 17"):
    generate(model, params, [[0]], encoder_inputs=[[3] * 18], max_new_tokens=4)
  encoder = dataclasses.replace(model.config, num_encoder_layers=1, num_decoder_layers=0)
  with pytest.raises(UserError, match="an encoder-only model writes no text"):
    generate(Transformer(encoder), params, [[0]])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "t5", "experts"])
def test_on_a_mesh_the_same_is_written(on_eight_devices, family):
  lines = on_eight_devices(str(Path(__file__).with_name("mesh_program.py")), family, timeout=900)
  assert len(lines) == 9
  for line in lines:
    same, near, shards = line.split()
    assert same == near == "True" and int(shards) >= 4
