"""Tokenizers made of vocabularies of ours: the same ids in the libraries of Hugging Face."""

import inspect
import json
import textwrap

import pytest
import sentencepiece
from tokenizers import Tokenizer

import t5x_style
from t5x_style.interop import tokenizer_files
from t5x_style.interop.tokenizer_files import Vocabulary

SHIPPED = f"{next(iter(t5x_style.__path__))}/data/vocabulary_files/python_stdlib.model"
TEXTS = [inspect.getsource(module) for module in (textwrap, inspect, json.decoder)]
TEXTS += ["", " ", "  a\t\r\n  b ", "naïve 日本語 🙂 \u2581 <0x41> [MASk]", "x" * 300]


@pytest.fixture(scope="module")
def shipped():
  with open(SHIPPED, "rb") as file:
    return file.read()


def test_ids_and_text_of_the_shipped_vocabulary(tmp_path, shipped):
  ids = tokenizer_files.write(
    tmp_path, Vocabulary(shipped, 128, ("[NLU]",)), architecture="encoder_only"
  )
  ours = sentencepiece.SentencePieceProcessor(model_proto=shipped)
  theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  assert theirs.get_vocab_size() == 8320
  assert theirs.token_to_id("<extra_id_0>") == 8319
  assert theirs.token_to_id("<extra_id_126>") == 8193
  assert theirs.token_to_id("[NLU]") == 8192
  for text in TEXTS:
    encoded = theirs.encode(text, add_special_tokens=False).ids
    assert encoded == ours.encode(text), text[:40]
    assert theirs.decode(encoded, skip_special_tokens=False) == text
  assert ids["mask_token_id"] == ours.piece_to_id("[MASK]")
  around = theirs.encode("a [MASK]").tokens
  assert around[0] == "[CLS]" and around[-2:] == ["[MASK]", "[SEP]"]


@pytest.mark.parametrize(
  ("architecture", "first", "last"),
  [("decoder_only", [0], []), ("encoder_decoder", [], [1])],
)
def test_what_stands_around_a_text(tmp_path, shipped, architecture, first, last):
  ids = tokenizer_files.write(tmp_path, Vocabulary(shipped, 10), architecture)
  theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  plain = theirs.encode("import os", add_special_tokens=False).ids
  assert theirs.encode("import os").ids == [*first, *plain, *last]
  assert ids.get("bos_token_id") == (0 if first else None) and ids["eos_token_id"] == 1


def test_bytes(tmp_path):
  tokenizer_files.write(tmp_path, Vocabulary(None, 125), "encoder_decoder")
  theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  for text in TEXTS:
    encoded = theirs.encode(text, add_special_tokens=False).ids
    assert encoded == [3 + byte for byte in text.encode()]
    assert theirs.decode(encoded) == text
  assert theirs.token_to_id("<extra_id_0>") == 383


def test_a_vocabulary_as_t5_has_it(tmp_path):
  """Spaces as U+2581, one put in front, several made one, NFKC; user-defined pieces."""
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter("\n".join(TEXTS).splitlines()),
    model_prefix=str(tmp_path / "t5"),
    vocab_size=600,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    user_defined_symbols=["[R]"],
    minloglevel=2,
  )
  content = (tmp_path / "t5.model").read_bytes()
  tokenizer_files.write(tmp_path, Vocabulary(content, 100), "encoder_decoder")
  ours = sentencepiece.SentencePieceProcessor(model_proto=content)
  theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  for text in ["def f(x):", "  two  spaces ", "ﬁne ① text", *TEXTS[0].splitlines()[:80]]:
    assert theirs.encode(text, add_special_tokens=False).ids == ours.encode(text), text


def test_what_a_tokenizer_json_cannot_repeat_is_said(tmp_path):
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS[0].splitlines()),
    model_prefix=str(tmp_path / "bpe"),
    model_type="bpe",
    vocab_size=300,
    minloglevel=2,
  )
  vocabulary = Vocabulary((tmp_path / "bpe.model").read_bytes(), 0)
  with pytest.raises(ValueError, match="of the kind BPE"):
    tokenizer_files.write(tmp_path, vocabulary, "encoder_decoder")
