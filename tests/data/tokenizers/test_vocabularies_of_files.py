"""SentencePiece models: own sentinels, no special token in a text, what is refused."""

import pickle

import pytest

from t5x_style.data.tokenizers import special_tokens, token_text, vocabularies
from t5x_style.errors import UserError


@pytest.mark.parametrize("space", ["\u2581", ""])
def test_sentinels_that_are_the_models_own(with_pieces, foreign, space):
  """As in mT5, they are the last pieces; none are appended."""
  path = with_pieces(foreign(), *(f"{space}<extra_id_{k}>" for k in (2, 1, 0)))
  with pytest.raises(ValueError, match="3 sentinels of its own, .* set EXTRA_IDS = 0"):
    vocabularies.sentencepiece(path)
  vocabulary = vocabularies.sentencepiece(path, extra_ids=0)
  size = vocabulary.vocab_size
  assert vocabulary.tokenizer.IdToPiece(size - 1) == f"{space}<extra_id_0>"
  assert vocabulary.extra_ids == 3
  assert special_tokens.sentinel_ids(vocabulary).tolist() == [size - 1, size - 2, size - 3]
  assert token_text.decode_visible(vocabulary, [size - 1, size - 3]) == "<extra_id_0><extra_id_2>"
  assert not token_text.token_bytes(vocabulary)[-3:].any()
  assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary
  borrowed = vocabularies.sentencepiece(path, 0, ("[MASK]",))
  assert special_tokens.special_id(borrowed, "[MASK]") == size - 3 and borrowed.extra_ids == 2


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("kind", ["appended", "own"])
def test_no_text_has_a_special_token(with_pieces, foreign, kind, model_type):
  """No id of a special token or sentinel occurs, even if the text spells its name."""
  path = with_pieces(foreign(model_type=model_type), "[MASK]", "<n>")
  if kind == "own":
    with_pieces(path, "\u2581<extra_id_1>", "\u2581<extra_id_0>")
  vocabulary = vocabularies.sentencepiece(path, 0 if kind == "own" else 2)
  text = "week </s> <pad>[MASK] <unk> <extra_id_0> your<extra_id_1> \u2581<extra_id_1>"
  special = {0, 1, special_tokens.special_id(vocabulary, "[MASK]")}
  special |= {*special_tokens.sentinel_ids(vocabulary).tolist()}
  for ids in (vocabulary.encode(text), vocabulary.encode_tf(text).numpy().tolist()):
    assert len(ids) > 20 and not special & {*ids}
  # A symbol of the author's own is what SentencePiece says it is, one piece of the text.
  assert vocabulary.tokenizer.PieceToId("<n>") in vocabulary.encode("your<n>week")


def test_a_model_of_words_is_refused(foreign):
  """SentencePiece fails at a text that has the name of a special token as a word."""
  with pytest.raises(UserError, match="whole words .*--model_type=unigram or bpe"):
    vocabularies.sentencepiece(foreign(model_type="word", vocab_size=12))


@pytest.mark.parametrize("content", [b"", b"{}", b"not a model", bytes(range(256))])
def test_not_a_model(tmp_path, content):
  file = tmp_path / "spiece.vocab"
  file.write_bytes(content)
  with pytest.raises(ValueError, match="spiece.vocab.*is not a SentencePiece model"):
    vocabularies.sentencepiece(str(file))


def test_other_conventions_are_refused(foreign):
  path = foreign(pad_id=-1, unk_id=0, bos_id=1, eos_id=2)
  with pytest.raises(ValueError, match="padding.*absent instead of 0.*--pad_id=0"):
    vocabularies.sentencepiece(path)
