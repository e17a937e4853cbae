"""NSP and SOP: frames, token types, labels that tell the truth, half of each."""

import itertools

import numpy as np
import pytest

from t5x_style.data import vocabularies
from t5x_style.data.sentence_pairs import NextSentence, SentenceOrder

OBJECTIVES = [NextSentence(), SentenceOrder()]


@pytest.fixture(scope="module")
def numbered(ordinary):
  """Documents whose tokens tell document and position: 60 documents of 100 tokens."""
  return [ordinary[i * 100 : (i + 1) * 100] for i in range(60)]


def split(row, types, cls, sep):
  row = row[row > 0]
  first, second = row[types[: len(row)] == 0], row[types[: len(row)] == 1]
  assert first[0] == cls and first[-1] == sep and second[-1] == sep
  assert not np.isin([*first[1:-1], *second[:-1]], [cls, sep]).any()
  return first[1:-1].tolist(), second[:-1].tolist()


def pairs(out, vocabulary):
  frame = [vocabularies.special_id(vocabulary, p) for p in ("[CLS]", "[SEP]")]
  return [
    (*split(row, types, *frame), int(label))
    for row, types, label in zip(out["targets"], out["token_types"], out["pair_label"], strict=True)
  ]


def test_next_sentence_labels(examples, numbered, ordinary, vocabulary):
  out = examples(NextSentence(), "encoder_only", {"inputs": 43}, docs=numbered)
  place = {int(token): i for i, token in enumerate(ordinary)}
  labels = []
  for first, second, label in pairs(out, vocabulary):
    first, second = ([place[t] for t in part] for part in (first, second))
    assert len(first) >= 2 and len(second) >= 2
    assert all(b - a == 1 for part in (first, second) for a, b in itertools.pairwise(part))
    follows = second[0] == first[-1] + 1
    assert label == int(not follows)
    if label:
      assert second[0] // 100 != first[0] // 100
    labels.append(label)
  n = len(labels)
  assert n == 60 * 3 and abs(sum(labels) - n / 2) < 3.5 * np.sqrt(n / 4)


def test_sentence_order_labels(examples, numbered, ordinary, vocabulary):
  out = examples(SentenceOrder(), "encoder_only", {"inputs": 43}, docs=numbered)
  place = {int(token): i for i, token in enumerate(ordinary)}
  labels = []
  for first, second, label in pairs(out, vocabulary):
    first, second = ([place[t] for t in part] for part in (first, second))
    text = second + first if label else first + second
    assert all(b - a == 1 for a, b in itertools.pairwise(text))
    labels.append(label)
  n = len(labels)
  assert n == 60 * 3 and abs(sum(labels) - n / 2) < 3.5 * np.sqrt(n / 4)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_masks(objective, examples, numbered, vocabulary):
  out = examples(objective, "encoder_only", {"inputs": 43}, docs=numbered)
  chosen = out["loss_weights"] > 0
  counts = chosen.sum(axis=1)
  assert set(counts) <= {6, 3} and counts.max() == 6  # 15 % of 40, of 20
  assert objective.max_targets({"inputs": 43}, "encoder_only") == 6
  assert (np.where(chosen, out["targets"], out["inputs"]) == out["targets"]).all()


def test_the_cut_is_at_a_sentence_end(examples, vocabulary):
  text = "One line here.\nAnother line there.\nA third one.\n" * 8
  doc = np.array(vocabulary.encode(text))
  out = examples(SentenceOrder(), "encoder_only", {"inputs": 35}, docs=[doc])
  for first, second, label in pairs(out, vocabulary)[:-1]:
    before = vocabularies.decode_visible(vocabulary, second if label else first)
    assert before.rstrip(" ")[-1] in ".\n"


def test_short_documents_are_left_out(examples):
  docs = [[10], [10, 11, 12], [], list(range(20, 30))]
  out = examples(NextSentence(), "encoder_only", {"inputs": 20}, docs=docs)
  assert len(out["targets"]) == 1


def test_errors():
  with pytest.raises(ValueError, match="too small for sentence_order"):
    SentenceOrder().lengths({"inputs": 6}, "encoder_only")
