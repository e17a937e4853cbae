"""Examples of documents: labels, and a part of another document."""

import numpy as np
import pytest

from t5x_style.data.objectives.classification import Classification
from t5x_style.data.objectives.next_sentence import NextSentence
from t5x_style.data.random_access.documents import stacked
from t5x_style.errors import UserError


def test_labels_are_those_of_the_documents(load, cached, documents):
  short = [document[:30] for document in documents[:6]]
  corpus = cached(short, targets=True)
  data = load("encoder_only", Classification(), corpus=corpus)
  assert data.label_names == tuple(f"target {i}" for i in range(6)) and data.max_targets == 1
  rows = data.rows.features(np.arange(6))
  found = {
    tuple(tokens[1 : (tokens > 0).sum() - 1]): int(label)
    for tokens, label in zip(rows["encoder_input_tokens"], rows["pair_labels"], strict=True)
  }
  assert found == {tuple(text.tolist()): i for i, text in enumerate(short)}


def test_half_of_the_second_segments_are_of_another_document(load, cached, ordinary):
  """Each document has a token of its own, so that the origin of a segment is seen."""
  texts = [np.full(200, token) for token in ordinary[:30]]
  data = load("encoder_only", NextSentence(mask_rate=0.01), corpus=cached(texts))
  rows = data.rows.features(np.arange(data.rows.components[0].examples.count))
  labels = rows["pair_labels"]
  assert 0.3 < labels.mean() < 0.7
  others = set()
  for tokens, types, label in zip(
    rows["encoder_target_tokens"], rows["encoder_token_types"], labels, strict=True
  ):
    first = set(tokens[(types == 0) & np.isin(tokens, ordinary)].tolist())
    second = set(tokens[(types == 1) & np.isin(tokens, ordinary)].tolist())
    assert (first != second) == bool(label)
    others |= second
  assert len(others) > 25


def test_both_documents_of_a_pair_are_named(load, cached, ordinary):
  texts = [np.random.default_rng(i).choice(ordinary[:500], 150) for i in range(20)]
  data = load("encoder_only", NextSentence(mask_rate=0.01), corpus=cached(texts))
  split, labels = data.rows.components[0].examples.split, []
  for number, place in enumerate(data.rows.places(np.arange(40))):
    row = {name: value[0] for name, value in data.rows.features(np.array([number])).items()}
    first, *others = data.rows.members(place)
    assert len(others) == int(row["pair_labels"])
    labels.append(len(others))
    for other in others:
      assert other.document != first.document
      named = split.tokens(other.document)[other.start : other.end]
      second = row["encoder_target_tokens"][row["encoder_token_types"] == 1]
      assert second[:-1].tolist() == named.tolist()
  assert 8 < sum(labels) < 32


def test_one_document_has_no_other_one(load, cached, ordinary):
  corpus = cached([np.full(200, ordinary[0])] * 3)  # copies
  with pytest.raises(UserError, match="one document, or copies of one"):
    load("encoder_only", NextSentence(), corpus=corpus)


def test_a_corpus_without_targets(load):
  with pytest.raises(UserError, match="says nothing"):
    load("encoder_only", Classification())


def test_stacked_pads_with_zeros():
  found = stacked(
    [{"a": np.array([1, 2]), "b": np.int32(5)}, {"a": np.array([3]), "b": np.int32(6)}]
  )
  assert found["a"].tolist() == [[1, 2], [3, 0]] and found["b"].tolist() == [5, 6]
