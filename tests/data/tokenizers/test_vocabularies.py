"""The shipped vocabulary and bytes give back every text; missing files, identity."""

import functools
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.codecs import sentencepiece_models
from t5x_style.data.corpora import python_stdlib
from t5x_style.data.tokenizers import special_tokens, token_text, vocabularies
from t5x_style.errors import UserError

TRICKY = (
  "",
  " ",
  "\n",
  "\tif x:\r\n\t\treturn  1\n" + " " * 60 + "# deep\n",
  "[MASK] [CLS] </s> <pad> <unk> <0x41> <extra_id_0> \u2581<extra_id_0> [S]",
  "\u2581\u2581 a\u2581b \ue000\ue001 \ufffd\ufffe \u2585 \x00\x01\x7f\u200b\ufeff",
  "ÀÉ e\u0301 ﬁ ① 漢字 한글 🙂🏽 \U0010ffff \ud7ff",
)


@functools.cache
def counts_of(file):
  return token_text.token_bytes(vocabularies.sentencepiece(file))


def round_trips(vocabulary, text):
  ids = vocabulary.encode(text)
  assert vocabulary.decode(ids) == text
  ids_tf = vocabulary.encode_tf(tf.constant(text))
  assert vocabulary.decode_tf(ids_tf).numpy().decode() == text
  assert vocabulary.decode(ids_tf.numpy().tolist()) == text
  assert token_text.decode_visible(vocabulary, ids) == text
  size = len(text.encode())
  counts = counts_of(vocabulary.sentencepiece_model_file)
  assert counts[ids].sum() == counts[ids_tf.numpy()].sum() == size
  marked = set(np.flatnonzero(counts == 0))
  assert not marked & set(ids) and not marked & set(ids_tf.numpy().tolist())


def test_sizes_and_ids(vocabulary):
  assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id) == (0, 1, 2)
  assert vocabulary.vocab_size == 8320 and vocabulary.extra_ids == 128
  assert [
    special_tokens.special_id(vocabulary, t) for t in sentencepiece_models.SPECIAL_TOKENS
  ] == list(range(3, 12))
  assert special_tokens.sentinel_ids(vocabulary).tolist() == list(range(8319, 8191, -1))
  assert vocabulary.tokenizer.IdToPiece(8319) == "\u2581<extra_id_0>"  # SeqIO counts them the same


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_texts_come_back(vocabulary, text):
  round_trips(vocabulary, text)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=80))
def test_arbitrary_texts_come_back(text):
  round_trips(vocabularies.sentencepiece(), text)


@settings(max_examples=60, deadline=None)
@given(st.text(" \t\r\n\u2581ab.=(0", max_size=120))
def test_white_space_comes_back(text):
  round_trips(vocabularies.sentencepiece(), text)


def stdlib_texts():
  for path in sorted(python_stdlib.text_files(python_stdlib.folder())):
    try:
      yield path, (Path(sysconfig.get_path("stdlib")) / path).read_bytes().decode()
    except UnicodeDecodeError:
      continue


def test_files_of_the_standard_library_come_back(vocabulary):
  texts = list(stdlib_texts())[::100]
  assert len(texts) > 10
  for _, text in texts:
    round_trips(vocabulary, text)


@pytest.mark.slow
def test_every_file_of_the_standard_library_comes_back(vocabulary):
  tokenizer = vocabulary.tf_tokenizer
  for path, text in stdlib_texts():
    assert vocabulary.decode(vocabulary.encode(text)) == text, path
    assert tokenizer.detokenize(tokenizer.tokenize(text)).numpy().decode() == text, path


@pytest.mark.parametrize("columns", [2, 3, 5, 13, 20, 31, 47, 48])
def test_indentation_is_one_piece_in_both_tokenizers(vocabulary, columns):
  text = f"\n{' ' * columns}"
  pieces = [vocabulary.tokenizer.IdToPiece(i) for i in vocabulary.encode(text)]
  assert pieces == ["\n", " " * columns]
  assert vocabulary.encode_tf(text).numpy().tolist() == vocabulary.encode(text)


def test_byte_vocabulary():
  vocabulary = vocabularies.byte_vocabulary()
  assert vocabulary.vocab_size == 387
  text = "é [MASK] <extra_id_0>\n"
  ids = vocabulary.encode(text)
  assert token_text.decode_visible(vocabulary, [*ids, 386, 1, 0]) == f"{text}<extra_id_0></s>"
  assert token_text.token_bytes(vocabulary)[ids].sum() == len(text.encode())
  assert token_text.token_bytes(vocabulary).sum() == 256


def test_the_identity_does_not_depend_on_the_path(vocabulary, tmp_path):
  copy = tmp_path / "python_stdlib.model"
  copy.write_bytes(Path(vocabulary.sentencepiece_model_file).read_bytes())
  moved = vocabularies.sentencepiece(str(copy))
  assert vocabularies.identity(moved) == vocabularies.identity(vocabulary)
  other = vocabularies.sentencepiece(extra_ids=100)
  assert vocabularies.identity(other) != vocabularies.identity(vocabulary)


def test_a_missing_file(tmp_path):
  for path in ("python_stdlip.model", str(tmp_path / "x.model"), str(tmp_path)):
    with pytest.raises(UserError, match="VOCABULARY_FILE.*python_stdlib.model") as raised:
      vocabularies.sentencepiece(path)
    assert path in str(raised.value)
