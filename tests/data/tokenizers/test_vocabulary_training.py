"""Trained vocabularies: the same for the same text, exact on any text."""

import dataclasses
import functools
import inspect
import json.decoder

import pytest

from t5x_style.codecs import sentencepiece_models
from t5x_style.data.tokenizers import vocabularies, vocabulary_training

DOCUMENTS = [inspect.getsource(module) for module in (dataclasses, functools, json.decoder)]


@pytest.fixture(scope="module")
def model():
  return vocabulary_training.train(DOCUMENTS, 420)


@pytest.fixture(scope="module")
def vocabulary(model, tmp_path_factory):
  path = tmp_path_factory.mktemp("model") / "small.model"
  path.write_bytes(model)
  return vocabularies.sentencepiece(str(path))


def test_training_is_deterministic(model):
  assert vocabulary_training.train(iter(DOCUMENTS), 420) == model


def test_pieces(vocabulary):
  pieces = [vocabulary.tokenizer.IdToPiece(i) for i in range(420)]
  assert len(set(pieces)) == 420
  assert pieces[:3] == ["<pad>", "</s>", "<unk>"]
  assert tuple(pieces[3:12]) == sentencepiece_models.SPECIAL_TOKENS
  assert pieces[12] == "<0x00>" and pieces[267] == "<0xFF>"
  assert not any("\u2581" in piece for piece in pieces)
  assert {"  ", "   "} <= set(pieces)
  assert not [p for p in pieces[268:] if len(p) > 1 and any(c.isdigit() for c in p)]


def test_text_it_was_not_trained_on_comes_back(vocabulary):
  counts = vocabulary_training.measure(
    vocabulary, ["Привет\x00 \u2581 [MASK]\r\n   12", "", "a  b"]
  )
  assert (counts.documents, counts.exact) == (3, 3)
  assert counts.text_bytes == len("Привет\x00 \u2581 [MASK]\r\n   12".encode()) + 4
  assert 0 < counts.bytes_per_token < 4


def test_chunks_are_the_text():
  documents = ["", "a\n" * 5000, "x" * 8000, "y" * 8001 + "\nz", "short", "a\r\nb\x0cc\u2028d"]
  chunks = list(vocabulary_training._chunks(documents))
  assert "".join(chunks) == "".join(documents)
  assert all(0 < len(chunk) <= 4000 for chunk in chunks)


def test_too_little_text_for_so_many_pieces():
  with pytest.raises(ValueError, match="no vocabulary of 8192 pieces.*--vocab_size"):
    vocabulary_training.train(["a b c"], 8192)
