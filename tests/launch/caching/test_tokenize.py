"""Documents become the tokens of the codec, whatever their length and their bytes."""

import json

import numpy as np
import pytest

from launch.caching import tokenize
from t5x_style import token_cache
from t5x_style.data.tokenizers import huggingface_tokenizers, vocabularies
from tests import tokenizer_files
from tests.launch.caching.listed_corpus import ListedCorpus

TEXTS = ("a", "A text of some words.", "Ja, \u00f6\u4e2d ", "</s> <extra_id_0> [MASK]", "x" * 9000)


def tokens_of(making, tmp_path, vocabulary, texts):
  """Returns {text: tokens} of a cache."""
  documents = tuple(
    ("train", text if isinstance(text, bytes) else text.encode(), None) for text in texts
  )
  making(ListedCorpus(documents), vocabulary=vocabulary)
  split = token_cache.open(tmp_path / "cache").split("train")
  return {texts[split.source(i).line - 1]: split.tokens(i) for i in range(len(split))}


def test_sentencepiece(making, tmp_path):
  vocabulary = vocabularies.sentencepiece()
  found = tokens_of(making, tmp_path, vocabulary, TEXTS)
  for text in TEXTS:
    assert found[text].tolist() == vocabulary.encode(text)


def test_ids_are_those_of_the_stream_and_not_the_tokenizer_s(making, tmp_path):
  """The tokenizer has no padding and "!" at 0, where the stream has padding."""
  vocabulary = huggingface_tokenizers.hf_tokenizer(tokenizer_files.byte_level(tmp_path))
  assert vocabulary.renumbered
  texts = (*TEXTS, "! !! a!")
  found = tokens_of(making, tmp_path, vocabulary, texts)
  for text in texts:
    assert found[text].tolist() == vocabulary.encode(text)
  assert 0 in vocabulary.codec.encode("!") and not (found["! !! a!"] == 0).any()
  assert token_cache.open(tmp_path / "cache").eos_id == vocabulary.eos_id


def test_bytes_that_are_not_utf_8_are_replaced(making, tmp_path):
  vocabulary = vocabularies.byte_vocabulary(0)
  found = tokens_of(making, tmp_path, vocabulary, [b"a\xffb"])
  assert found[b"a\xffb"].tolist() == vocabulary.encode("a\ufffdb")


def test_a_run_is_written_when_it_is_full(making, tmp_path, monkeypatch):
  monkeypatch.setattr(tokenize, "_AT_ONCE", 2)
  monkeypatch.setattr(tokenize, "_RUN_DOCUMENTS", 3)
  texts = [f"text {i}" for i in range(10)]
  found = tokens_of(making, tmp_path, vocabularies.byte_vocabulary(0), texts)
  assert sorted(found) == sorted(texts)


@pytest.mark.parametrize("size", [1, 5_000_000])
def test_a_document_of_one_byte_and_one_of_five_million(making, tmp_path, size):
  text = np.random.default_rng(0).integers(97, 123, size, np.uint8).tobytes()
  found = tokens_of(making, tmp_path, vocabularies.byte_vocabulary(0), [text, b"other"])
  np.testing.assert_array_equal(found[text], np.frombuffer(text, np.uint8) + 3)
  split = token_cache.open(tmp_path / "cache").split("train")
  start = int(split.starts(np.array([[*found].index(text)]))[0])
  if size > 1:  # A window far inside is read without the rest.
    window, _ = split.tokens_between(start + 4_999_000, start + 4_999_512)
    np.testing.assert_array_equal(window, np.frombuffer(text[4_999_000:4_999_512], np.uint8) + 3)


def test_unknown_tokens_are_counted(making, tmp_path):
  vocabulary = huggingface_tokenizers.hf_tokenizer(tokenizer_files.wordpiece(tmp_path))
  with pytest.warns(UserWarning, match="not in the vocabulary and becomes the unknown token"):
    tokens_of(making, tmp_path, vocabulary, ["\u4e2d" * 3, "a"])
  found = json.loads((tmp_path / "cache/manifest.json").read_text())
  split = token_cache.open(tmp_path / "cache").split("train")
  every = np.concatenate([split.tokens(i) for i in range(2)])
  expected = int((every == vocabulary.unk_id).sum())
  assert found["statistics"]["splits"]["train"]["unknown_tokens"] == expected > 0


def test_what_a_corpus_warns_of_is_kept(making, tmp_path):
  with pytest.warns(UserWarning, match="strange"):  # while the first documents are looked at
    tokens_of(making, tmp_path, vocabularies.byte_vocabulary(0), ["a", "warn of it", "b"])
  found = json.loads((tmp_path / "cache/manifest.json").read_text())
  assert found["statistics"]["warnings"] == ["document 1 is strange"]
