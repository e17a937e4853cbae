"""Text infilling: the inputs match the text with a gap at each mask; exact share, Poisson spans."""

import math

import numpy as np
import pytest

from t5x_style.data import noise
from t5x_style.data.objectives.text_infilling import TextInfilling, poisson
from t5x_style.data.tokenizers import special_tokens, token_ids, token_text


def fits(inputs, text, mask):
  """Returns whether the text is the inputs with any tokens, or none, in place of each mask."""
  parts, part = [], []
  for token in inputs:
    if token == mask:
      parts.append(part)
      part = []
    else:
      part.append(token)
  parts.append(part)
  if len(parts) == 1:
    return inputs == text
  head, tail = parts[0], parts[-1]
  if text[: len(head)] != head or (tail and text[-len(tail) :] != tail):
    return False
  at, end = len(head), len(text) - len(tail)
  for part in parts[1:-1]:
    while at <= end and text[at : at + len(part)] != part:
      at += 1
    at += len(part)
  return at <= end


def test_target_is_the_text_and_inputs_are_it_with_gaps(examples, cut, vocabulary):
  out = examples(TextInfilling(), "encoder_decoder", {"inputs": 101})
  mask = special_tokens.special_id(vocabulary, "[MASK]")
  hidden = []
  for inputs, targets, window in zip(out["inputs"], out["targets"], cut(100), strict=False):
    inputs, targets = inputs[inputs > 0].tolist(), targets[targets > 0].tolist()
    assert targets == [*window, vocabulary.eos_id]
    assert inputs.pop() == vocabulary.eos_id
    assert fits(inputs, window.tolist(), mask)
    hidden.append(len(window) - sum(token != mask for token in inputs))
  assert set(hidden[:-1]) == {30}


def test_poisson():
  drawn = poisson(noise.mix(np.arange(1, 500, dtype=np.uint64)), 200, 3.0)
  n = drawn.size
  for k in range(9):
    p = math.exp(-3) * 3**k / math.factorial(k)
    assert abs((drawn == k).sum() - n * p) < 4 * np.sqrt(n * p * (1 - p))


def test_spans_have_the_mean_of_the_distribution(documents):
  objective = TextInfilling()
  rows = 2000
  lengths = np.full(rows, 400, np.int32)
  seeds = noise.mix(np.arange(1, rows + 1, dtype=np.uint64))
  hidden, insertions = objective.draw(lengths, seeds, 400)
  assert (hidden.sum(axis=1) == 120).all() and not (hidden & insertions).any()
  spans = (hidden & ~np.pad(hidden, [(0, 0), (1, 0)])[:, :-1]).sum(axis=1)
  # Poisson(3) without zeros has mean 3 / (1 - exp(-3)) = 3.157; the last span is cut.
  assert 120 / spans.mean() == pytest.approx(3.157, rel=0.02)
  assert insertions.sum() / spans.sum() == pytest.approx(math.exp(-3) / (1 - math.exp(-3)), rel=0.1)
  share = hidden.mean(axis=0)
  assert abs(share[5:-5] - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / rows)


def test_permuted_sentences_hold_the_same_tokens(examples, vocabulary):
  text = "".join(f"This is sentence number {i}.\n" for i in range(30))
  tokens = np.array(vocabulary.encode(text))
  objective = TextInfilling(noise_density=0.01, permute_sentences=True)
  out = examples(objective, "encoder_decoder", {"inputs": len(tokens) + 2}, docs=[tokens])
  mask = special_tokens.special_id(vocabulary, "[MASK]")
  inputs = out["inputs"][0][~np.isin(out["inputs"][0], [mask, vocabulary.pad_id])]
  assert out["targets"][0][: len(tokens)].tolist() == tokens.tolist()
  lost = np.setdiff1d(inputs, out["targets"][0])
  assert len(lost) == 0
  sentences = token_text.decode_visible(vocabulary, inputs).count("sentence number")
  assert sentences >= 27
  assert inputs[:60].tolist() != tokens[:60].tolist()


def test_sentences_of_other_scripts_are_permuted(examples, vocabulary):
  """Their full stop 。 consists of several byte tokens."""
  text = "".join(f"第{i}句话。" for i in range(12))
  tokens = np.array(vocabulary.encode(text))
  objective = TextInfilling(noise_density=0.01, permute_sentences=True)
  out = examples(objective, "encoder_decoder", {"inputs": len(tokens) + 2}, docs=[tokens])
  inputs = token_text.decode_visible(vocabulary, out["inputs"][0])
  whole = [f"第{i}句话。" for i in range(12)]
  moved = sorted(whole, key=lambda sentence: inputs.find(sentence))
  assert sum(sentence in inputs for sentence in whole) >= 10  # one or two have a mask
  assert moved != whole


def test_errors(vocabulary):
  with pytest.raises(ValueError, match="noise_density = 0 is outside"):
    lengths = {"inputs": 8, "targets": 8}
    TextInfilling(noise_density=0).check(token_ids.of(vocabulary), lengths, "encoder_decoder")
