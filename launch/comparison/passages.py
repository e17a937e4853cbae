"""Cuts the held-out passages on which all models of a comparison are judged.

Passages are text, the same for every model. They fit into the shortest rows of all candidates, in
the tokens of each of their vocabularies. Four passages at a time share what is in their holes: the
model has to say which content belongs where. Each content is right once, so nothing is gained by
preferring frequent words. All is a function of the held-out text, the vocabularies and the seed.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import regex

from t5x_style.codecs.text_codec import TextCodec
from t5x_style.errors import UserError
from t5x_style.trained import multiple_choice
from t5x_style.trained.holes import MARKER
from t5x_style.trained.multiple_choice import Question

from ..process import whole_files

MOST_TOKENS = 128  # of a passage, also where rows are longer
_LEAST_TOKENS = 12
_PAIR_TOKENS = 14  # with [CLS] and [SEP] a row of 16; some models read it once for each token
_HOLE_WORDS = (1, 2, 3)  # span corruption hides three tokens on average
_HOLE_BYTES = 48  # at most, so that a word that is not one has no hole
GROUP = 4  # passages that share the contents of their holes
# How many excerpts are read at most for each passage: those whose holes are as long make a group.
_EXCERPTS = 30
_LEAST_WORDS = 6
_MOST_BYTES = 1 << 24  # of the held-out text that is read

# A word as in WordsAndSentences.word_ids; where words have no spaces, a character counts as one.
_WORD = regex.compile(
  r"[\p{Ideographic}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*"
  r"|[\p{Alphabetic}\p{M}\p{N}\p{Pc}]+",
  regex.V1,
)


@dataclasses.dataclass(frozen=True)
class Passage:
  """A held-out text, and what models are asked about it; all borders are those of words.

  Attributes:
    text: of one document.
    half: where its second half begins, in characters; with the space before it.
    hole: where the hole begins and ends; there is text on both sides of it.
    choices: the contents of the holes of the four passages of a group, in their order; in each of
      the holes all have the same number of tokens.
    right: which of them belongs here.
    good, bad: a part of the text, and the same with two words next to each other swapped.
  """

  text: str
  half: int
  hole: tuple[int, int]
  choices: tuple[str, ...]
  right: int
  good: str
  bad: str

  @property
  def question(self) -> Question:
    """The hole and what may be in it."""
    start, stop = self.hole
    return Question(self.text[:start], self.text[stop:], self.choices)


class _Excerpt(NamedTuple):
  """A text that fits, with the places of its words."""

  text: str
  words: list[tuple[int, int]]


def cut(
  documents: Iterable[str],
  codecs: Sequence[TextCodec],
  *,
  row_tokens: int,
  count: int,
  passage_bytes: int,
  seed: int,
) -> list[Passage]:
  """Cuts passages out of documents.

  Args:
    documents: the held-out text; the first 16 MB are read.
    codecs: of the vocabularies of all candidates.
    row_tokens: how many tokens of text fit into a row of every candidate.
    count: how many passages, rounded down to groups of four; fewer if the text has no more.
    passage_bytes: about the most bytes of a passage.
    seed: chooses the passages and what is asked about them.

  Raises:
    UserError: rows are too short, or not one passage can be cut.
  """
  if row_tokens < _LEAST_TOKENS:
    raise UserError(
      f"Held-out passages of at least {_LEAST_TOKENS} tokens are needed to judge models, and the "
      f"rows of a candidate have room for {max(row_tokens, 0)} tokens of text: raise its "
      "TASK_FEATURE_LENGTHS."
    )
  draw = random.Random(seed)
  texts = list(_beginning(documents))
  most = min(row_tokens, MOST_TOKENS)
  wanted = max(1, count // GROUP)
  groups, read = _Groups(codecs), 0
  for excerpt in _excerpts(texts, codecs, most, passage_bytes, draw):
    if groups.enough(wanted) or read == count * _EXCERPTS:
      break
    groups.add(excerpt, draw)
    read += 1
  passages = list(itertools.islice(groups.passages(), wanted * GROUP))
  if not passages:
    raise UserError(
      f"No passage to judge models on can be cut out of the held-out text: it has {len(texts)} "
      f"documents and {read} parts that fit, of which no {GROUP} have holes of the same "
      "number of tokens. Hold out more text (VALIDATION_FILES, VALIDATION_FRACTION), or allow "
      "longer rows (TASK_FEATURE_LENGTHS)."
    )
  return passages


def write(path: Path, passages: Sequence[Passage]) -> None:
  """Writes passages as JSON lines; the file is whole or does not exist."""
  lines = [json.dumps(dataclasses.asdict(x), ensure_ascii=False) + "\n" for x in passages]
  whole_files.write(path, "".join(lines))


def read(path: Path) -> list[Passage]:
  """Reads passages.

  Raises:
    UserError: the file is missing, or is not one of `write`.
  """
  try:
    content = path.read_text(encoding="utf-8")
  except OSError as error:
    raise UserError(f"The passages in {path} cannot be read: {error.strerror}.") from error
  passages = []
  # splitlines would also split at U+2028 and others, which texts may hold.
  lines = content.removesuffix("\n").split("\n") if content else []
  for number, line in enumerate(lines, 1):
    try:
      passages.append(_parsed(json.loads(line)))
    except (ValueError, TypeError, KeyError) as error:
      raise UserError(
        f"{path}:{number} is not a passage of a comparison ({type(error).__name__}: {error}); "
        "remove the file; a new one is then made."
      ) from error
  right = [passage.right for passage in passages]
  if not passages or right != list(range(GROUP)) * (len(passages) // GROUP):
    raise UserError(
      f"{path} holds no groups of {GROUP} passages; remove it; a new one is then made."
    )
  return passages


def _parsed(values: dict[str, Any]) -> Passage:
  start, stop = values.pop("hole")
  choices = tuple(values.pop("choices"))
  if len(choices) != GROUP:
    raise ValueError(f"{len(choices)} choices")
  return Passage(hole=(int(start), int(stop)), choices=choices, **values)


def _beginning(documents: Iterable[str]) -> Iterator[str]:
  size = 0
  for document in documents:
    yield document[: max(0, _MOST_BYTES - size)]
    size += len(document)
    if size >= _MOST_BYTES:
      return


def _excerpts(
  texts: Sequence[str],
  codecs: Sequence[TextCodec],
  most_tokens: int,
  most_bytes: int,
  draw: random.Random,
) -> Iterator[_Excerpt]:
  """Yields parts of documents that do not overlap, in random order: first one of each document."""
  slots = []
  for number, text in enumerate(texts):
    size = max(most_bytes, 1)  # Characters have one byte or more, so no part is longer.
    starts = list(range(0, len(text), size))
    draw.shuffle(starts)
    slots += [
      (turn, draw.random(), number, start, start + size) for turn, start in enumerate(starts)
    ]
  seen = set()
  for _, _, number, start, stop in sorted(slots):
    excerpt = _fitting(texts[number], start, stop, codecs, most_tokens, most_bytes)
    if excerpt is not None and excerpt.text not in seen:
      seen.add(excerpt.text)
      yield excerpt


def _fitting(
  text: str, start: int, stop: int, codecs: Sequence[TextCodec], most_tokens: int, most_bytes: int
) -> _Excerpt | None:
  """Returns the longest part from a word on that fits; None if it has too few words or markers."""
  part = text[start:stop]
  words = [match.span() for match in _WORD.finditer(part)]
  if start and words and words[0][0] == 0:
    words = words[1:]  # It may have begun before.
  if stop < len(text):
    words = words[:-1]
  if len(words) < _LEAST_WORDS:
    return None
  first = words[0][0]

  def fits(count: int) -> bool:
    candidate = part[first : words[count - 1][1]]
    return len(candidate.encode()) <= most_bytes and all(
      len(codec.encode(candidate)) <= most_tokens for codec in codecs
    )

  low, high = 0, len(words)
  while low < high:
    middle = (low + high + 1) // 2
    low, high = (middle, high) if fits(middle) else (low, middle - 1)
  if low < _LEAST_WORDS:
    return None
  found = part[first : words[low - 1][1]]
  ids = [codec.encode(found) for codec in codecs]
  spelled = all(
    codec.unknown_id not in row for codec, row in zip(codecs, ids, strict=True)
  )  # Unknown words could not be told apart.
  if MARKER.search(found) or not spelled or "\ufffd" in found or "\0" in found:
    return None
  return _Excerpt(found, [(a - first, b - first) for a, b in words[:low]])


class _Holed(NamedTuple):
  """An excerpt with a hole and a pair."""

  excerpt: _Excerpt
  hole: tuple[int, int]
  pair: tuple[str, str]

  @property
  def content(self) -> str:
    return self.excerpt.text[slice(*self.hole)]


class _Groups:
  """Collects groups of passages, each of whose contents is as long in the holes of the others."""

  def __init__(self, codecs: Sequence[TextCodec]):
    self._codecs = codecs
    # By the number of words, then by the number of tokens in each vocabulary.
    self._open: dict[tuple[int, ...], list[list[_Holed]]] = collections.defaultdict(list)
    self._whole: dict[int, list[list[_Holed]]] = {words: [] for words in _HOLE_WORDS}

  def add(self, excerpt: _Excerpt, draw: random.Random) -> None:
    """Gives an excerpt a hole, and a place in the first group that it fits into."""
    words = draw.choice(_HOLE_WORDS)
    hole, pair = _hole(excerpt, words, draw), _pair(excerpt, self._codecs, draw)
    if hole is None or pair is None:
      return
    new = _Holed(excerpt, hole, pair)
    groups = self._open[words, *self._tokens_of_hole(new)]
    for group in groups:
      if all(self._fit(new, other) for other in group):
        group.append(new)
        if len(group) == GROUP:
          groups.remove(group)
          self._whole[words].append(group)
        return
    groups.append([new])

  def enough(self, wanted: int) -> bool:
    """Returns whether there are this many groups, as many for each number of words."""
    return all(len(groups) * len(self._whole) >= wanted for groups in self._whole.values())

  def passages(self) -> Iterator[Passage]:
    """Yields the passages of whole groups; those of one, two and three words take turns."""
    for turn in itertools.zip_longest(*self._whole.values()):
      for group in filter(None, turn):
        choices = tuple(holed.content for holed in group)
        for right, (excerpt, hole, pair) in enumerate(group):
          half = excerpt.words[len(excerpt.words) // 2 - 1][1]
          yield Passage(excerpt.text, half, hole, choices, right, *pair)

  def _tokens_of_hole(self, holed: _Holed) -> tuple[int, ...]:
    """Returns how many tokens the content of a hole has, in each vocabulary."""
    text, (start, stop) = holed.excerpt.text, holed.hole
    question = Question(text[:start], text[stop:], (holed.content,))
    return tuple(len(multiple_choice.split(x, question).choices[0]) for x in self._codecs)

  def _fit(self, one: _Holed, other: _Holed) -> bool:
    """Returns whether two contents differ, and each is as long in the hole of the other."""
    return one.content.casefold() != other.content.casefold() and all(
      self._tokens(there, here.content) == self._tokens(there, there.content)
      for here, there in ((one, other), (other, one))
    )

  def _tokens(self, holed: _Holed, content: str) -> list[int]:
    """Returns how many tokens a text has with some content in its hole, in each vocabulary."""
    text, (start, stop) = holed.excerpt.text, holed.hole
    whole = text[:start] + content + text[stop:]
    return [len(codec.encode(whole)) for codec in self._codecs]


def _hole(excerpt: _Excerpt, words: int, draw: random.Random) -> tuple[int, int] | None:
  """Returns a place for a hole, with at least a quarter of the words on each side."""
  quarter = max(1, len(excerpt.words) // 4)
  last = len(excerpt.words) - quarter - words
  if last < quarter:
    return None
  first = draw.randint(quarter, last)
  start, stop = excerpt.words[first][0], excerpt.words[first + words - 1][1]
  inside = excerpt.text[start:stop]
  return None if "\n" in inside or len(inside.encode()) > _HOLE_BYTES else (start, stop)


def _pair(
  excerpt: _Excerpt, codecs: Sequence[TextCodec], draw: random.Random
) -> tuple[str, str] | None:
  """Returns a part of a text, and the same with two words next to each other swapped."""
  text, words = excerpt
  places = list(range(len(words) - 1))
  draw.shuffle(places)
  for i in places:
    (a, b), (c, d) = words[i], words[i + 1]
    if "\n" in text[b:c] or text[a:b].casefold() == text[c:d].casefold():
      continue
    for reach in (6, 4, 3, 2, 1):  # words on each side
      start, stop = words[max(0, i - reach)][0], words[min(len(words) - 1, i + 1 + reach)][1]
      good = text[start:stop]
      bad = text[start:a] + text[c:d] + text[b:c] + text[a:b] + text[d:stop]
      if all(len(codec.encode(x)) <= _PAIR_TOKENS for codec in codecs for x in (good, bad)):
        return good, bad
  return None
