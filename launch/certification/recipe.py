"""What a recipe is, and what it is given."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from . import certificate, texts


class Context(NamedTuple):
  """What the recipes of one certificate share.

  Attributes:
    folder: of the certificate; a recipe writes to `folder / name` only.
    text: what is trained on.
    bindings: gin bindings of the user, which come last: with a wrong one a recipe has to fail.
    command: that runs a recipe, with {} for its name; it is written into files.
    say: shows one line of progress.
  """

  folder: Path
  text: texts.Text
  bindings: Sequence[str]
  command: str
  say: Callable[[str], None]

  @property
  def settings(self) -> list[str]:
    """The gin bindings of every run: the text, and those of the user."""
    return [*self.text.bindings, "HANG_MINUTES = None", *self.bindings]


class Recipe(NamedTuple):
  """A fixed training whose outcome is known.

  Attributes:
    name: a key of catalogue.ABOUT.
    missing: returns why the recipe cannot run here, "" if it can.
    run: trains, or resumes, and returns the line of the certificate.
  """

  name: str
  missing: Callable[[Context], str]
  run: Callable[[Context], certificate.Line]


def needs_tiny_shakespeare(context: Context) -> str:
  """Returns why a recipe that was published for tiny Shakespeare cannot run; "" if it can."""
  if context.text.is_tiny_shakespeare:
    return ""
  return (
    "needs --text=FILE with tiny Shakespeare (1,115,394 bytes, sha256 "
    f"{texts.TINY_SHAKESPEARE[:8]}...: data/tinyshakespeare/input.txt of github.com/karpathy/"
    f"char-rnn); the text here is {context.text.name}"
  )
