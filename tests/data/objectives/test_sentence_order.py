"""SOP: labels are true, half of each; the cut is at the end of a sentence."""

import itertools

import numpy as np
import pytest

from t5x_style.data.objectives.sentence_order import SentenceOrder
from t5x_style.data.tokenizers import token_text


def test_sentence_order_labels(pairs, examples, numbered, ordinary):
  out = examples(SentenceOrder(), "encoder_only", {"inputs": 43}, docs=numbered)
  place = {int(token): i for i, token in enumerate(ordinary)}
  labels = []
  for first, second, label in pairs(out):
    first, second = ([place[t] for t in part] for part in (first, second))
    text = second + first if label else first + second
    assert all(b - a == 1 for a, b in itertools.pairwise(text))
    labels.append(label)
  n = len(labels)
  assert n == 60 * 3 and abs(sum(labels) - n / 2) < 3.5 * np.sqrt(n / 4)


def test_the_cut_is_at_a_sentence_end(pairs, examples, vocabulary):
  text = "One line here.\nAnother line there.\nA third one.\n" * 8
  doc = np.array(vocabulary.encode(text))
  out = examples(SentenceOrder(), "encoder_only", {"inputs": 35}, docs=[doc])
  for first, second, label in pairs(out)[:-1]:
    before = token_text.decode_visible(vocabulary, second if label else first)
    assert before.rstrip(" ")[-1] in ".\n"


def test_errors():
  with pytest.raises(ValueError, match="too small for sentence_order"):
    SentenceOrder().lengths({"inputs": 6}, "encoder_only")
