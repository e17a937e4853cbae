"""What a row is shown as."""

from t5x_style.data.preview import example
from t5x_style.data.tokenizers import special_tokens, token_ids


def test_token_kinds(vocabulary):
  kinds = example.token_kinds(token_ids.of(vocabulary))
  assert len(kinds) == vocabulary.vocab_size
  assert (kinds[0], kinds[1], kinds[-1]) == ("padding", "special", "sentinel")
  for token, kind in (("[MASK]", "masked"), ("[R]", "mode"), ("[CLS]", "special")):
    assert kinds[special_tokens.special_id(vocabulary, token)] == kind
  assert kinds.count("sentinel") == vocabulary.extra_ids
  assert set(kinds) <= set(example.KINDS)
