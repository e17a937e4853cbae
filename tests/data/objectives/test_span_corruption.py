"""Span corruption: lengths, exact counts, reversible to the raw window by a plain program."""

import numpy as np
import pytest

from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.tokenizers import special_tokens, token_ids, vocabularies


def restore(vocabulary, inputs, targets):
  """Restores the raw window: replaces each sentinel of the inputs by its span in the targets."""
  sentinels = set(special_tokens.sentinel_ids(vocabulary).tolist())
  hidden, current = {}, None
  for token in targets:
    if token == 0:
      break
    if token in sentinels:
      current = hidden.setdefault(token, [])
    else:
      current.append(token)
  # EOS ends the targets, and so the last span; it may be a document's end elsewhere.
  assert current.pop() == vocabulary.eos_id
  raw = []
  for token in [t for t in inputs if t][:-1]:
    raw += hidden.pop(token) if token in sentinels else [token]
  assert not hidden
  return raw


OBJECTIVES = [
  SpanCorruption(),
  SpanCorruption(t5_mask=True),
  SpanCorruption(noise_density=0.5),
  SpanCorruption(noise_density=0.15, mean_span=64),
  SpanCorruption(mean_span=3, mean_span_to=8),
  SpanCorruption(noise_density=0.5, mean_span=8, span_lengths="normal"),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_reversible(objective, examples, cut, vocabulary):
  out = examples(objective, "encoder_decoder", {"inputs": 512})
  plan = objective.denoiser({"inputs": 512}, "encoder_decoder")
  raw = cut(plan.raw)
  assert len(out["inputs"]) == len([r for r in raw if len(r) > 1])
  for inputs, targets, window in zip(out["inputs"], out["targets"], raw, strict=False):
    assert restore(vocabulary, inputs, targets) == window.tolist()


@pytest.mark.parametrize("objective", [OBJECTIVES[0], OBJECTIVES[2]], ids=str)
def test_full_windows_fill_their_features(objective, examples, vocabulary):
  out = examples(objective, "encoder_decoder", {"inputs": 512})
  assert (out["inputs"][:-1] > 0).all() and (out["targets"][:-1] > 0).all()
  assert (out["inputs"][:-1, -1] == vocabulary.eos_id).all()


def test_rates_are_exact(examples, vocabulary):
  out = examples(SpanCorruption(), "encoder_decoder", {"inputs": 512})
  sentinels = special_tokens.sentinel_ids(vocabulary)
  spans = np.isin(out["targets"][:-1], sentinels).sum(axis=1)
  hidden = (out["targets"][:-1] > 0).sum(axis=1) - spans - 1
  assert set(spans) == {28} and set(hidden) == {85}  # of 568: 15 %, 3.04 a span
  # In order, from sentinel 0 on, the same in inputs and targets.
  for row in out["inputs"][:-1]:
    assert row[np.isin(row, sentinels)].tolist() == sentinels[:28].tolist()


def test_span_lengths_have_the_drawn_means(examples, vocabulary):
  objective = SpanCorruption(noise_density=0.15, mean_span=3, mean_span_to=8)
  out = examples(objective, "encoder_decoder", {"inputs": 512})
  sentinels = special_tokens.sentinel_ids(vocabulary)
  spans = np.isin(out["targets"][:-1], sentinels).sum(axis=1)
  drawn = np.round(85 / spans)
  assert set(drawn) == {3, 4, 5, 6, 7, 8}
  # Uniform over six values: mean 5.5, standard deviation 1.71.
  assert abs(drawn.mean() - 5.5) < 3 * 1.71 / np.sqrt(len(drawn))


def test_decoder_only_is_one_row(examples, cut, vocabulary):
  objective = SpanCorruption()
  out = examples(objective, "decoder_only", {"targets": 512})
  plan = objective.denoiser({"targets": 512}, "decoder_only")
  assert plan.inputs + plan.targets in (511, 512)
  for row, weight, attention, window in zip(
    out["targets"], out["loss_weights"], out["causal_attention"], cut(plan.raw), strict=False
  ):
    row = row[row > 0]
    prefix = int(np.argmax(weight))
    assert attention.sum() == prefix + 1 and weight.sum() == len(row) - prefix
    assert restore(vocabulary, row[:prefix], row[prefix:]) == window.tolist()


def test_errors_say_what_to_write(vocabulary):
  few = vocabularies.sentencepiece(extra_ids=100)
  objective = SpanCorruption(noise_density=0.5)
  lengths = objective.lengths({"inputs": 512}, "encoder_decoder")
  with pytest.raises(ValueError, match=r"hides 128 spans .* has 100 sentinels.*at least 128"):
    objective.check(token_ids.of(few), lengths, "encoder_decoder")
  with pytest.raises(ValueError, match=r"has no 'inputs'.*TASK_FEATURE_LENGTHS = \{'inputs': 512"):
    SpanCorruption().lengths({}, "encoder_decoder")
  with pytest.raises(ValueError, match="is too small for span_corruption"):
    SpanCorruption().lengths({"inputs": 3}, "encoder_decoder")
  with pytest.raises(ValueError, match=r"\['targets'\] = 64 cuts the targets.*set it to 114"):
    SpanCorruption().lengths({"inputs": 512, "targets": 64}, "encoder_decoder")
  with pytest.raises(ValueError, match="noise_density = 1.5 is outside"):
    SpanCorruption(noise_density=1.5).lengths({"inputs": 512}, "encoder_decoder")
  with pytest.raises(
    ValueError, match="encoder_only models there are: classification, masked_diffusion, masked_lm"
  ):
    SpanCorruption().check(token_ids.of(vocabulary), lengths, "encoder_only")
  with pytest.raises(ValueError, match="no special token"):
    objective = SpanCorruption(mode="[NLU]")
    objective.check(token_ids.of(vocabulary), lengths, "encoder_decoder")
