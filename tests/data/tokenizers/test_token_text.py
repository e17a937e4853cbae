"""The text of token ids: sizes in bytes, and what is shown."""

import numpy as np
import pytest
import seqio

from t5x_style.data.tokenizers import special_tokens, token_text, vocabularies


def test_bytes_of_tokens(vocabulary):
  counts = token_text.token_bytes(vocabulary)
  assert counts.dtype == np.int32 and counts.shape == (8320,)
  assert not counts[:12].any() and not counts[8192:].any()
  assert (counts[12:268] == 1).all()
  assert (counts[268:8192] > 0).all()


def test_decode_visible_shows_everything_but_padding(vocabulary):
  mask = special_tokens.special_id(vocabulary, "[MASK]")
  ids = [*vocabulary.encode("def "), 8319, *vocabulary.encode("(x):"), mask, 8192, 1, 0, 0]
  shown = token_text.decode_visible(vocabulary, np.array(ids))
  assert shown == "def <extra_id_0>(x):[MASK]<extra_id_127></s>"
  assert token_text.decode_visible(vocabulary, [2, 8320, 99_999]) == "<unk><unk><unk>"
  half = token_text.decode_visible(vocabulary, vocabulary.encode("🙂")[:2])
  assert "\ufffd" in half


def test_a_model_with_a_space_in_front(foreign):
  vocabulary = vocabularies.sentencepiece(foreign(), extra_ids=10)
  ids = vocabulary.encode("Thank you")
  assert token_text.decode_visible(vocabulary, [*ids, vocabulary.vocab_size - 1]) == (
    " Thank you<extra_id_0>"
  )
  assert token_text.token_bytes(vocabulary)[ids].sum() == len(" Thank you")
  assert token_text.token_bytes(vocabulary)[[0, 1, 2]].sum() == 0


def test_no_bytes_for_what_is_not_known():
  with pytest.raises(ValueError, match="PassThroughVocabulary"):
    token_text.token_bytes(seqio.PassThroughVocabulary(10))
