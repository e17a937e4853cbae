"""Passages are a function of the text, fit everywhere, and ask what can be answered."""

import collections
import dataclasses
import itertools
import random

import pytest

from launch.comparison import passages
from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.errors import UserError
from tests.trained.random_models import shipped_codec

WORDS = (
  "the quick brown fox jumps over a lazy dog and then some other animal reads old books".split()
)


def documents(count=40, length=80, seed=1):
  draw = random.Random(seed)
  return [
    " ".join(draw.choice(WORDS) + draw.choice(("", "", ",", ".")) for _ in range(length))
    for _ in range(count)
  ]


def cut(texts, codecs=None, **changes):
  settings = {"row_tokens": 60, "count": 24, "passage_bytes": 200, "seed": 0} | changes
  return passages.cut(texts, codecs or [shipped_codec()], **settings)


@pytest.mark.parametrize("codecs", [[shipped_codec()], [shipped_codec(), ByteCodec(8)]])
def test_all_fit_and_all_contents_of_a_group_are_as_long_in_each_of_its_holes(codecs):
  texts = documents(300)
  found = cut(texts, codecs)
  assert len(found) == 24
  for passage in found:
    question = passage.question
    assert any(passage.text in text for text in texts)
    assert len(passage.text.encode()) <= 200
    assert question.before and question.after
    assert passage.text == question.before + passage.choices[passage.right] + question.after
    lengths = set()
    for choice in passage.choices:
      whole = question.before + choice + question.after
      lengths.add(tuple(len(codec.encode(whole)) for codec in codecs))
    assert len(lengths) == 1
    assert all(len(codec.encode(passage.text)) <= 60 for codec in codecs)
    assert passage.text[: passage.half][-1].isalnum() and passage.text[passage.half] in " ,."
  for group in (found[i : i + 4] for i in range(0, 24, 4)):
    contents = [x.text[slice(*x.hole)] for x in group]
    assert all(x.choices == tuple(contents) for x in group)
    assert [x.right for x in group] == [0, 1, 2, 3] and len(set(contents)) == 4
    assert len({len(content.split()) for content in contents}) == 1
  assert len({passage.text for passage in found}) == 24
  words = {len(passage.choices[0].split()) for passage in found}
  assert words == {1, 2, 3} or len(codecs) > 1


def test_a_pair_differs_in_the_order_of_two_neighbouring_words():
  for passage in cut(documents()):
    good, bad = passage.good, passage.bad
    assert good in passage.text and good != bad
    assert len(shipped_codec().encode(good)) <= 14
    one, other = (x.replace(",", "").replace(".", "").split() for x in (good, bad))
    places = [i for i, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]]
    assert len(places) == 2 and places[1] == places[0] + 1
    assert [one[i] for i in places] == [other[i] for i in reversed(places)]
    punctuation = [[c for c in x if c in ",."] for x in (good, bad)]
    assert punctuation[0] == punctuation[1]


def test_they_are_the_same_again_and_others_with_another_seed():
  texts = documents()
  assert cut(texts) == cut(iter(texts))
  assert {x.text for x in cut(texts)} != {x.text for x in cut(texts, seed=1)}
  assert len(cut(texts, count=11)) == 8
  assert len(cut(documents(12))) < 24


def test_they_come_from_all_documents():
  texts = [*documents(11), documents(1, length=20_000, seed=2)[0]]
  sources = collections.Counter(
    texts.index(next(t for t in texts if x.text in t)) for x in cut(texts)
  )
  assert sources[11] < 18


def test_frequent_words_are_right_no_more_often_than_they_are_offered():
  """A model that always prefers the most frequent content is right in a quarter of the holes."""
  texts = [
    " ".join(random.Random(i).choices(WORDS, [30, *[1] * (len(WORDS) - 1)], k=60))
    for i in range(400)
  ]
  found = cut(texts, count=200)
  counts = collections.Counter(itertools.chain(*(text.split() for text in texts)))
  right = [
    max(x.choices, key=counts.__getitem__) == x.choices[x.right]
    for x in found
    if " " not in x.choices[0]
  ]
  assert len(right) >= 20 and sum(right) / len(right) == 0.25


def test_languages_without_spaces():
  draw = random.Random(0)
  texts = [
    "".join(draw.choice("己所不欲勿施於人學而時習之") for _ in range(200)) for _ in range(40)
  ]
  found = cut(texts, [ByteCodec(8)], count=8, row_tokens=80)
  assert len(found) == 8
  assert all(1 <= len(x.choices[0]) <= 3 for x in found)


def test_what_cannot_be_asked_is_left_out():
  texts = [f"{text} [MASK] {text}" for text in documents(40, length=6)]
  texts += [f"{text} \ufffd {text}" for text in documents(40, length=6)]
  assert all("[MASK]" not in x.text and "\ufffd" not in x.text for x in cut([*texts, *documents()]))


@pytest.mark.parametrize(
  "texts, changes, message",
  [
    (documents(), {"row_tokens": 11}, "have room for 11 tokens of text: raise its TASK_FEATURE"),
    (documents(), {"row_tokens": -3}, "have room for 0 tokens"),
    ([], {}, "it has 0 documents and 0 parts that fit"),
    (["two words"] * 40, {}, "it has 40 documents and 0 parts that fit"),
    (documents(1, length=12), {}, "Hold out more text"),
  ],
)
def test_too_little_text_or_room(texts, changes, message):
  with pytest.raises(UserError, match=message):
    cut(texts, **changes)


def test_a_file_of_texts_with_other_line_separators(tmp_path):
  found = [
    dataclasses.replace(passage, text=f"a\u2028b\x85c\u2029{passage.text}")
    for passage in cut(documents())
  ]
  passages.write(tmp_path / "file", found)
  assert passages.read(tmp_path / "file") == found


def test_a_file_of_them(tmp_path):
  found = cut(documents())
  file = tmp_path / "passages.jsonl"
  passages.write(file, found)
  assert passages.read(file) == found
  assert [path.name for path in tmp_path.iterdir()] == ["passages.jsonl"]
  lines = file.read_text().splitlines(keepends=True)
  for content, message in (
    ("".join(lines[:3]), "holds no groups of 4"),
    ("", "holds no groups of 4"),
    (lines[0] + "{}\n", "passages.jsonl:2 is not a passage"),
    ("[1]\n", "passages.jsonl:1 is not a passage"),
    (lines[0][:-20], "passages.jsonl:1 is not a passage"),
  ):
    file.write_text(content)
    with pytest.raises(UserError, match=message):
      passages.read(file)
  with pytest.raises(UserError, match="cannot be read: No such file"):
    passages.read(tmp_path / "none.jsonl")
