"""Words and sentences in rows of tokens, as readers of many scripts see them."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from t5x_style.data.tokenizers import token_ids, token_text, vocabularies
from t5x_style.data.tokenizers.words_and_sentences import WordsAndSentences


@pytest.fixture(scope="module", params=["bytes", "sentencepiece"])
def spelled(request, vocabulary):
  """Each byte is a token, or pieces are tokens with bytes for most non-Latin characters."""
  chosen = vocabularies.byte_vocabulary() if request.param == "bytes" else vocabulary
  return chosen, WordsAndSentences(token_ids.of(chosen))


def both(function, rows):
  """Returns what a function gives for rows of tokens, with NumPy and with TensorFlow."""
  rows = np.array(rows, np.int32)
  found = function(rows)
  np.testing.assert_array_equal(found, function(tf.constant(rows)).numpy())
  return found


def words(spelled, text):
  vocabulary, spelling = spelled
  ids = vocabulary.encode(text)
  numbers = both(spelling.word_ids, [ids])[0]
  groups = itertools.groupby(zip(numbers, ids, strict=True), key=lambda pair: pair[0])
  found = [token_text.decode_visible(vocabulary, [i for _, i in group]) for _, group in groups]
  return [word.strip() for word in found if word.strip()]


def sentences(spelled, text):
  vocabulary, spelling = spelled
  ids = vocabulary.encode(text)
  ends = np.flatnonzero(both(spelling.sentence_ends, [ids])[0]) + 1
  parts = [token_text.decode_visible(vocabulary, part) for part in np.split(ids, ends)]
  return [part for part in parts if part]


WORDS = {
  "english": "well-known it's x_1 os.path 3.14",
  "hindi, with signs and viramas": "हिन्दी विकिपीडिया में १२ शब्द।",
  "joiners": "क्\u200dष می\u200cخواهم",
  "decomposed": "cafe\u0301 no\u0308el, Vie\u0323\u0302t",
  "arabic with vowels": "بِسْمِ ٱللَّهِ",
  "hebrew with points": "שָׁלוֹם עֲלֵיכֶם",
  "tamil, thai": "தமிழ் மொழி ภาษาไทย",
  "ideographs, kana": "中国人は日本語です",
  "apostrophes": "l’eau don't 'quoted'",
  "emoji": "👩🏽\u200d🚀 ok 🇫🇷",
  "soft hyphen": "co\u00adoperate",
  "two marks after a space": "a \u0301\u0302b",
}
EXPECTED = {
  "english": ["well", "-", "known", "it's", "x_1", "os", ".", "path", "3", ".", "14"],
  "hindi, with signs and viramas": ["हिन्दी", "विकिपीडिया", "में", "१२", "शब्द", "।"],
  "decomposed": ["cafe\u0301", "no\u0308el", ",", "Vie\u0323\u0302t"],
  "ideographs, kana": ["中", "国", "人", "は", "日", "本", "語", "です"],
  "apostrophes": ["l’eau", "don't", "'", "quoted", "'"],
}


@pytest.mark.parametrize("name", WORDS)
def test_words(name, spelled):
  assert words(spelled, WORDS[name]) == EXPECTED.get(name, WORDS[name].split())


@pytest.mark.parametrize(
  "parts",
  [
    ["Hi there.", " It is 3.14, e.g.x.", ' "Really?!"', " He said (so...).", " Next"],
    ["你好。", "他说：“好。”", "然后走了！", "「真的？」", "是"],
    ["यह है।", " वह था॥", " ठीक"],
    ["مرحبا؟", " نعم۔", " لا"],
    ["Ողջույն։", " Բարի"],
    ["ሰላም።", " ደህና፧", " አዎ"],
    ["မြန်မာ။", " ဟုတ်"],
    ["សួស្តី។", " បាទ"],
    ["a line\n", "another one.\n\n", "  x = 1\n", "y"],
  ],
  ids=lambda parts: parts[0],
)
def test_sentences(parts, spelled):
  assert sentences(spelled, "".join(parts)) == parts


def test_rows_are_apart_and_special_tokens_are_no_text(spelled):
  """A character that a row cuts is not completed by the next row; padding is not a word."""
  vocabulary, spelling = spelled
  ids = vocabulary.encode("aé។")
  whole = [ids, ids]
  cut = [[*ids[:-1], vocabulary.eos_id], [ids[-1], *ids[:-1]]]
  assert both(spelling.sentence_ends, whole)[:, -1].all()
  # The last token is a byte of the full stop in both vocabularies.
  ends = both(spelling.sentence_ends, cut)
  assert ends.nonzero()[1].tolist() == [len(ids) - 1]  # EOS
  numbers = both(spelling.word_ids, [[*ids, 0, 0]])[0]
  assert numbers[-1] == numbers[-2] + 1 == numbers[-3] + 2
