"""The text that recipes train on: the user's file, or made-up text, the same everywhere."""

import bisect
import hashlib
import itertools
import random
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..process.errors import ConfigurationError

# github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt; nanoGPT and others train on it.
TINY_SHAKESPEARE = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
_TRAINED_SHARE = 0.9  # of the characters, as in nanoGPT; the rest is held out


class Text(NamedTuple):
  """A text that is cut into two files.

  Attributes:
    name: "tiny Shakespeare", "made-up text" or the path of another file.
    sha256: of the whole text in UTF-8.
    argument: of the command that reads it, "" for the made-up text.
  """

  name: str
  sha256: str
  argument: str
  train: Path
  validation: Path

  @property
  def is_tiny_shakespeare(self) -> bool:
    return self.sha256 == TINY_SHAKESPEARE

  @property
  def bindings(self) -> list[str]:
    """The gin bindings of data/text_files.gin."""
    return [f"CORPUS_FILES = {str(self.train)!r}", f"VALIDATION_FILES = {str(self.validation)!r}"]


def digest(text: str) -> str:
  """Returns the SHA-256 of a text in UTF-8."""
  return hashlib.sha256(text.encode()).hexdigest()


def prepare(file: str | None, folder: Path) -> Text:
  """Cuts a file, or the made-up text if that is None, into two files in `folder`.

  Raises:
    ConfigurationError: it is not UTF-8.
  """
  content = made_up_text().encode() if file is None else Path(file).expanduser().read_bytes()
  try:
    text = content.decode()
  except UnicodeDecodeError as error:
    raise ConfigurationError(f"--text={file}: the file is not text in UTF-8 ({error}).") from error
  sha256 = digest(text)
  shakespeare = sha256 == TINY_SHAKESPEARE
  name = "tiny Shakespeare" if shakespeare else "made-up text" if file is None else str(file)
  argument = "" if file is None else f" --text={shlex.quote(Path(file).name)}"
  folder.mkdir(parents=True, exist_ok=True)
  found = Text(name, sha256, argument, folder / "train.txt", folder / "validation.txt")
  cut = int(len(text) * _TRAINED_SHARE)
  for path, part in ((found.train, text[:cut]), (found.validation, text[cut:])):
    if not path.exists() or path.read_bytes() != part.encode():  # A run is told of a changed file.
      path.write_bytes(part.encode())
  return found


_STARTS, _VOWELS, _ENDS = "b br d f g gr k l m n p r s st t v w".split(), "aeiou", ("", *"lmnrst")
_WORDS, _FOLLOWERS, _SENTENCES = 400, 8, 10_000


def made_up_text(seed: int = 0) -> str:
  """Returns 320 kB of sentences of made-up words; some are frequent, and some follow others.

  It uses only random.random(), whose numbers are the same in every version of Python.
  """
  draw = random.Random(seed).random

  def one_of(options: Sequence[str]) -> str:
    return options[int(draw() * len(options))]

  words = sorted(
    {_word(one_of, draw) for _ in range(2 * _WORDS)}, key=lambda word: (len(word), word)
  )
  words = words[:_WORDS]
  # Zipf's law; what may follow a word is drawn by the same frequencies.
  totals = list(itertools.accumulate(1 / rank for rank in range(2, len(words) + 2)))

  def frequent() -> str:
    return words[bisect.bisect(totals, draw() * totals[-1], 0, len(words) - 1)]

  followers = {word: [frequent() for _ in range(_FOLLOWERS)] for word in words}
  sentences = []
  for _ in range(_SENTENCES):
    sentence = [frequent()]
    for _ in range(3 + int(draw() * 9)):
      sentence.append(one_of(followers[sentence[-1]]) if draw() < 0.8 else frequent())
    sentences.append(" ".join(sentence).capitalize() + one_of(".." + "?!") + one_of(" " * 4 + "\n"))
  return "".join(sentences)


def _word(one_of: Callable[[Sequence[str]], str], draw: Callable[[], float]) -> str:
  syllables = 1 + int(draw() * 3)
  return "".join(one_of(_STARTS) + one_of(_VOWELS) + one_of(_ENDS) for _ in range(syllables))
