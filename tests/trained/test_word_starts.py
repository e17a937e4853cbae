"""Words in rows of tokens of several vocabularies."""

import pytest

from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.codecs.tokenizer_json_codec import TokenizerJsonCodec
from t5x_style.trained.word_starts import word_numbers


def words(codec, text):
  """Returns the text of each word, as its tokens are shown."""
  ids = codec.encode(text)
  found = {}
  for i, number in zip(ids, word_numbers(codec, ids), strict=True):
    found.setdefault(number, []).append(i)
  assert list(found) == list(range(len(found)))
  return [codec.decode_visible(group) for group in found.values()]


def test_bytes():
  """Each byte is a token; characters of several bytes are letters, or not, as a whole."""
  assert words(ByteCodec(0, ()), "naïve café_2, 漢字🙂!") == [
    *("naïve", " ", "café_2", ",", " ", "漢字", "🙂", "!")
  ]


@pytest.mark.parametrize("kind", ["byte_level", "wordpiece", "unigram"])
def test_tokenizers(kind, tmp_path):
  pytest.importorskip("tokenizers")
  from tests import tokenizer_files

  path = tokenizer_files.KINDS[kind](tmp_path)
  eos = {"byte_level": "<|endoftext|>", "wordpiece": "[SEP]", "unigram": "</s>"}[kind]
  with open(path) as file:
    codec = TokenizerJsonCodec(file.read(), path, {"eos": eos})
  found = words(codec, "jumpsover the quickfox!")
  assert [x for x in map(str.strip, found) if x] == ["jumpsover", "the", "quickfox", "!"]
