"""Special tokens: declared by the model, taken from the extra ids, or absent."""

import pickle

import pytest

from t5x_style.data.tokenizers import special_tokens, token_text, vocabularies


def test_symbols_by_hand_are_special_where_they_look_so(foreign):
  path = foreign(user_defined_symbols=["[MASK]", "<sep>", "party"], vocab_size=64)
  vocabulary = vocabularies.sentencepiece(path)
  for token in ("[MASK]", "<sep>"):
    i = special_tokens.special_id(vocabulary, token)
    assert vocabulary.tokenizer.IdToPiece(i) == token
    assert token_text.token_bytes(vocabulary)[i] == 0
  party = vocabulary.tokenizer.PieceToId("party")
  assert token_text.token_bytes(vocabulary)[party] == 5


def test_a_special_token_that_is_absent(foreign, vocabulary):
  path = foreign()
  with pytest.raises(ValueError, match="foreign.model has no special token '\\[MASK\\]'") as raised:
    special_tokens.special_id(vocabularies.sentencepiece(path), "[MASK]")
  for advice in (
    "python_stdlib.model",
    "launch.tokenizer",
    "specials_from_extra_ids = ('[MASK]',)",
  ):
    assert advice in str(raised.value)
  with pytest.raises(ValueError, match="'[NLU]'".replace("[", "\\[")):
    special_tokens.special_id(vocabulary, "[NLU]")
  # An ordinary piece is not a special token, and a sentinel has its own function.
  for token in (" self", "\u2581<extra_id_0>"):
    with pytest.raises(ValueError, match="no special token"):
      special_tokens.special_id(vocabulary, token)


@pytest.mark.parametrize("kind", ["sentencepiece", "bytes"])
def test_special_tokens_from_the_extra_ids(foreign, kind):
  if kind == "bytes":
    vocabulary = vocabularies.byte_vocabulary(10, ("[CLS]", "[MASK]"))
    size = 269
  else:
    vocabulary = vocabularies.sentencepiece(foreign(), 10, ("[CLS]", "[MASK]"))
    size = vocabulary.tokenizer.GetPieceSize()
  assert vocabulary.vocab_size == size
  assert vocabulary.extra_ids == 8
  assert special_tokens.special_id(vocabulary, "[CLS]") == size - 10
  assert special_tokens.special_id(vocabulary, "[MASK]") == size - 9
  assert special_tokens.sentinel_ids(vocabulary).tolist() == list(range(size - 1, size - 9, -1))
  assert not token_text.token_bytes(vocabulary)[-10:].any()
  assert token_text.decode_visible(vocabulary, [size - 9, size - 8, size - 1]) == (
    "[MASK]<extra_id_7><extra_id_0>"
  )
  assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary
  assert vocabularies.identity(vocabulary)["specials_from_extra_ids"] == ["[CLS]", "[MASK]"]
  with pytest.raises(ValueError, match="has no special token '\\[SEP\\]'.*'\\[MASK\\]', '\\[SEP"):
    special_tokens.special_id(vocabulary, "[SEP]")
