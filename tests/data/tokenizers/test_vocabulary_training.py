"""Trained vocabularies: the same for the same text, exact on any text."""

import dataclasses
import functools
import inspect
import json.decoder

import numpy as np
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


def test_lines_are_those_of_splitlines(monkeypatch):
  monkeypatch.setattr(vocabulary_training, "_BLOCK", 3)
  for text in (
    "",
    "\n",
    "a\r\nb\rc\n\nlonger than a block\x0cd\u2028e\x85",
    "no line end",
    "abc\r\n",
  ):
    assert list(vocabulary_training._lines(text)) == text.splitlines(keepends=True)


def test_a_sample_of_little_text_is_all_of_it():
  found = vocabulary_training.sample(DOCUMENTS, 10**6)
  size = sum(len(document.encode()) for document in DOCUMENTS)
  assert (found.kept_bytes, found.read_bytes) == (size, size)
  chunks = list(vocabulary_training._chunks(DOCUMENTS))  # what the trainer gets
  assert list(vocabulary_training._chunks(found.texts())) == list(found.texts()) == chunks


def test_a_sample_is_bounded_and_comes_from_everywhere():
  documents = [f"{i:06d} é" * (1 + i % 7) for i in range(20_000)]

  def numbers(most_bytes):
    found = vocabulary_training.sample(iter(documents), most_bytes)
    assert found.kept_bytes == sum(map(len, found.parts)) <= most_bytes < found.kept_bytes + 100
    assert found.read_bytes == sum(len(document.encode()) for document in documents)
    return [int(text[:6]) for text in found.texts()]

  found = numbers(70_000)  # of 724 kB
  assert found == sorted(set(found)) == numbers(70_000)
  assert set(numbers(20_000)) < set(found)  # the smallest random numbers
  # Of each tenth, and of short and long ones, about the same share: 1,930 of 20,000, 12 sigma.
  counts = np.bincount(np.array(found) // 2000, minlength=10)
  assert abs(counts - len(found) / 10).max() < 12 * 13.2
  lengths = np.bincount(np.array(found) % 7)
  assert abs(lengths - len(found) / 7).max() < 12 * 15.4


def test_too_little_text_for_that_many_pieces():
  message = r"^this text is too short for a vocabulary of 8192 pieces.*--vocab_size=\d+ at most\.$"
  with pytest.raises(ValueError, match=message):
    vocabulary_training.train(["a b c"], 8192)
  with pytest.raises(ValueError, match="no vocabulary of 20 pieces.*another --vocab_size"):
    vocabulary_training.train(["a b c"], 20)
