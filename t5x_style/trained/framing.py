"""What is put around the ids of a text before a model reads it: start token, EOS, [CLS], [SEP]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from t5x_style.codecs.text_codec import TextCodec


class Template(NamedTuple):
  """The ids that a tokenizer puts before and after a text."""

  before: tuple[int, ...] = ()
  after: tuple[int, ...] = ()

  def around(self, ids: Sequence[int]) -> list[int]:
    """Returns the ids of a text with those before and after it."""
    return [*self.before, *ids, *self.after]


def decoder_prompt(codec: TextCodec, template: Template | None, ids: Sequence[int]) -> list[int]:
  """Returns what a decoder-only model reads before it continues a text; never empty.

  A model of this package reads the start token first. One of Hugging Face reads what its tokenizer
  puts in front of the text, and nothing after it; if that is nothing, an empty text is the start
  token.

  Args:
    ids: of the text.
  """
  if template is None:
    return [codec.start_id, *ids]
  return [*template.before, *ids] or [codec.start_id]


def template_of(tokenizer: Any) -> Template:
  """Returns what a tokenizers.Tokenizer puts around one text, by its post-processor."""
  bare = tokenizer.encode("a", add_special_tokens=False).ids
  framed = tokenizer.encode("a", add_special_tokens=True).ids
  for start in range(len(framed) - len(bare) + 1):
    if framed[start : start + len(bare)] == bare:
      return Template(tuple(framed[:start]), tuple(framed[start + len(bare) :]))
  return Template()
