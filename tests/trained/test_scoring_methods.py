"""Which methods fit a model, by what it was trained for; and models of this package are scored."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.errors import UserError
from t5x_style.trained.scoring_methods import fitting_methods
from tests.trained import random_models


@functools.cache
def untrained(architecture):
  """Returns a model of bytes with random parameters."""
  return random_models.trained(architecture, codec=ByteCodec(23, ("[CLS]", "[SEP]", "[MASK]")))


def trained_for(model, *names, **changes):
  components = tuple({"objective": name} for name in names)
  return dataclasses.replace(model, objectives=components, **changes)


def test_methods_of_objectives():
  decoder = untrained("decoder_only")
  both = untrained("encoder_decoder")
  encoder = untrained("encoder_only")
  spans, masks = ["enc_dec_mask", "enc_dec_prefix"], "pseudo_log_likelihood"
  for model, names, alone, after in (
    (decoder, ["causal_lm"], ["causal"], ["causal"]),
    (decoder, ["fill_in_middle", "prefix_lm"], ["causal", "prefix_lm"], ["causal", "prefix_lm"]),
    (decoder, ["span_corruption", "prefix_lm"], ["prefix_lm"], ["prefix_lm"]),
    (decoder, [None], ["causal"], ["causal"]),
    (both, ["span_corruption"], spans, ["encoder_decoder"]),
    (both, ["text_infilling"], spans, ["encoder_decoder"]),
    (both, ["prefix_lm"], ["enc_dec_prefix"], ["encoder_decoder"]),
    (both, [None], [], ["encoder_decoder"]),
    (encoder, ["roberta"], [masks, f"{masks}_in_words"], []),
    (
      encoder,
      ["masked_diffusion"],
      ["diffusion_bound", masks, f"{masks}_in_words"],
      ["diffusion_bound"],
    ),
  ):
    model = trained_for(model, *names)
    assert fitting_methods(model, False) == alone
    assert fitting_methods(model, True) == after


def test_tasks_with_inputs_are_prefixes():
  model = untrained("decoder_only")
  model = trained_for(model, None, row_lengths={"inputs": 8, "targets": 16})
  assert fitting_methods(model, True) == ["prefix_lm"]


def test_a_text_alone_means_nothing_to_a_model_of_tasks():
  model = trained_for(untrained("encoder_decoder"), None)
  with pytest.raises(
    UserError, match=r"no probability of a text alone: call score\(texts, targets"
  ):
    model.score(["a"])


def logits(model, **batch):
  out = model.model.apply({"params": model.params}, {k: jnp.array([v]) for k, v in batch.items()})
  return np.asarray(jax.nn.log_softmax(out.logits()[0]))


def test_a_run_of_this_package_reads_its_start_token():
  model = untrained("decoder_only")
  (score,) = model.score(["a quick"], with_eos=True)
  ids = [*model.codec.encode("a quick"), 1]
  table = logits(model, decoder_input_tokens=[0, *ids[:-1]])
  np.testing.assert_allclose(
    score.log_probabilities, table[np.arange(len(ids)), ids], rtol=0, atol=1e-5
  )
  assert repr(score).startswith(f"Score({score.total:.3f} nats, 8 tokens, causal, 'a quick')")


def test_a_prefix_is_read_in_both_directions():
  model = untrained("decoder_only")
  codec = model.codec
  mode = {"objective": "prefix_lm", "mode": "[MASK]"}  # Any special token may name a denoiser.
  model = dataclasses.replace(model, objectives=(mode,))
  (score,) = model.score(["a quick"], [" fox"])
  before, ids = [0, codec.special_id("[MASK]"), *codec.encode("a quick")], codec.encode(" fox")
  row = [*before, *ids[:-1]]
  prefix = (np.arange(len(row)) < len(before)).astype(int)
  table = logits(model, decoder_input_tokens=row, decoder_causal_attention=prefix)
  wanted = table[len(before) - 1 + np.arange(len(ids)), ids]
  np.testing.assert_allclose(score.log_probabilities, wanted, rtol=0, atol=1e-5)
  causal = logits(model, decoder_input_tokens=row)[len(before) - 1 + np.arange(len(ids)), ids]
  assert np.abs(causal - wanted).max() > 1e-5


def test_masks_of_a_run_of_this_package():
  model = untrained("encoder_only")
  codec = model.codec
  (score,) = model.score(["fox"])
  ids = codec.encode("fox")
  cls, sep, mask = map(codec.special_id, ("[CLS]", "[SEP]", "[MASK]"))
  for i, wanted in enumerate(ids):
    row = [cls, *(mask if j == i else x for j, x in enumerate(ids)), sep]
    table = logits(model, encoder_input_tokens=row)
    assert score.log_probabilities[i] == pytest.approx(table[i + 1, wanted], abs=1e-5)


@pytest.mark.parametrize("both_ways", [False, True])
def test_an_answer_comes_after_the_end_of_the_question(both_ways):
  """Decoders are fine-tuned on question, EOS and answer, in one or both directions."""
  model = untrained("decoder_only")
  objective = {"objective": "text_to_text", "bidirectional_inputs": both_ways}
  model = dataclasses.replace(model, objectives=(objective,))
  (score,) = model.score(["ab"], ["cd"])
  question, answer = model.codec.encode("ab"), model.codec.encode("cd")
  read = [0, *question, model.codec.eos_id]
  tokens = [*read, *answer[:-1]]
  prefix = [1] * len(read) + [0] * (len(answer) - 1)
  features = {"decoder_causal_attention": prefix} if both_ways else {}
  table = logits(model, decoder_input_tokens=tokens, **features)
  expected = table[np.arange(len(read) - 1, len(tokens)), answer]
  np.testing.assert_allclose(score.log_probabilities, expected, rtol=0, atol=1e-5)
