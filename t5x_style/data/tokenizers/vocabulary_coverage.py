"""Measures how much of a text a vocabulary cannot spell, which is unknown to a model or lost."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from t5x_style.codecs import sentencepiece_models
from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.codecs.sentencepiece_codec import SentencePieceCodec
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.codecs.tokenizer_json_codec import TokenizerJsonCodec, piece_reader
from t5x_style.errors import UserError

_SHARE_TO_WARN_OF = 0.01
_EXAMPLES, _EXAMPLE_LENGTH = 5, 16
# What is measured of a corpus: the most documents, the most characters in total, and the most of a
# document.
_DOCUMENTS, CHARACTERS, _EXCERPT = 1000, 100_000, 4000

# (a text without a token, how much of it there is, whether it is dropped rather than unknown)
Missing = tuple[str, int, bool]


@dataclasses.dataclass(frozen=True)
class Coverage:
  """How much of some documents a vocabulary covers.

  Lower-casing and other normalisation do not count as loss.

  Attributes:
    documents: how many were measured.
    unit: "characters", or "bytes" for byte-level tokenizers.
    total: units of the documents.
    unknown: units that become the unknown token.
    dropped: units that become no token.
    examples: the most frequent texts of both kinds.
  """

  documents: int
  unit: str
  total: int
  unknown: int
  dropped: int
  examples: Sequence[str]

  @property
  def share(self) -> float:
    """The share of the text that is not covered."""
    return (self.unknown + self.dropped) / max(self.total, 1)

  @property
  def dropped_share(self) -> float:
    """The share of the text that becomes no token."""
    return self.dropped / max(self.total, 1)

  def remark(self) -> str:
    """Says what is not covered; "" if everything is."""
    if not self.share:
      return ""
    examples = ", ".join(map(repr, self.examples))
    fates = ["becomes the unknown token"] * bool(self.unknown) + ["is dropped"] * bool(self.dropped)
    fate = " or ".join(fates)
    share = "less than 0.1%" if self.share < 0.001 else f"{self.share:.1%}"
    return (
      f"{share} of the text ({self.unit} of {self.documents:,} documents) is not in the "
      f"vocabulary and {fate}, most often {examples}"
    )

  def warning(self, name: str) -> str:
    """Returns a warning against the vocabulary `name`; "" if it covers enough of the text.

    Of a vocabulary that drops text it always warns: nothing in the batches shows that it is gone.
    """
    if self.share <= _SHARE_TO_WARN_OF and not self.dropped:
      return ""
    return (
      f"{self.remark()}. A model can neither read nor write it. Take a tokenizer made for such "
      f"text instead of {name}: one of bytes, or with byte fallback, covers everything; "
      "`python -m launch.tokenizer` trains one on your text."
    )


def excerpts(texts: Iterable[bytes], limit: int = CHARACTERS) -> Iterator[str]:
  """Yields excerpts of the first 1,000 texts: of long ones the beginning and the middle.

  Args:
    limit: ends after about this many characters.
  """
  size = 0
  for content in itertools.islice(texts, _DOCUMENTS):
    text = content.decode("utf-8", errors="replace")
    if len(text) > _EXCERPT:
      half, middle = _EXCERPT // 2, len(text) // 2
      text = f"{text[:half]} {text[middle : middle + half]}"
    size += len(text)
    yield text
    if size >= limit:
      return


def covers_everything(vocabulary: Any) -> bool:
  """Returns whether bytes spell what no piece of a SeqIO vocabulary covers."""
  codec = _codec_of(vocabulary)
  if isinstance(codec, SentencePieceCodec):
    return sentencepiece_models.byte_pieces(codec.sp_model) == 256
  return isinstance(codec, ByteCodec)


def measure(vocabulary: Any, texts: Sequence[str]) -> Coverage | None:
  """Measures texts; None if it is not known how the SeqIO vocabulary encodes."""
  codec = _codec_of(vocabulary)
  return None if codec is None else of_codec(codec, texts)


def _codec_of(vocabulary: Any) -> TextCodec | None:
  from t5x_style.data.tokenizers.base import codec_of

  try:
    return codec_of(vocabulary)
  except UserError:
    return None


def of_codec(codec: TextCodec, texts: Sequence[str]) -> Coverage:
  """Measures how much of some texts a codec covers."""
  unit, total = "characters", sum(map(len, texts))
  missing: Iterator[Missing] = iter(())
  if isinstance(codec, TokenizerJsonCodec):
    missing = _huggingface(codec, texts)
    if codec.byte_level:
      unit, total = "bytes", sum(len(text.encode()) for text in texts)
  elif isinstance(codec, SentencePieceCodec):
    missing = _sentencepiece(codec, texts)
  found: collections.Counter[str] = collections.Counter()
  sums = {False: 0, True: 0}
  for text, size, dropped in missing:
    found[text] += size
    sums[dropped] += size
  examples = [
    text if len(text) <= _EXAMPLE_LENGTH else f"{text[:_EXAMPLE_LENGTH]}..."
    for text, _ in found.most_common(_EXAMPLES)
  ]
  return Coverage(len(texts), unit, total, sums[False], sums[True], examples)


def _sentencepiece(codec: SentencePieceCodec, texts: Iterable[str]) -> Iterator[Missing]:
  processor = codec.tokenizer
  for text in texts:
    ids = processor.EncodeAsIds(text)
    if codec.unknown_id in ids:
      # The "piece" of an unknown token is the text that it stands for.
      pieces = processor.EncodeAsPieces(text)
      for piece in (p for i, p in zip(ids, pieces, strict=True) if i == codec.unknown_id):
        yield piece, len(piece), False


def _huggingface(codec: TokenizerJsonCodec, texts: Iterable[str]) -> Iterator[Missing]:
  tokenizer, settings = codec.tokenizer, codec.tokenizer_settings
  model = settings["model"]
  # Added tokens are found before anything else; special ones are ordinary text here.
  added = [t.content for t in tokenizer.get_added_tokens_decoder().values() if not t.special]
  cut = re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))) or r"(?!)")
  words: collections.Counter[str] = collections.Counter()
  for text in texts:
    for part in cut.split(text):
      part = tokenizer.normalizer.normalize_str(part) if tokenizer.normalizer else part
      if not tokenizer.pre_tokenizer:
        words[part] += 1
        continue
      end = 0
      for word, (begin, stop) in [
        *tokenizer.pre_tokenizer.pre_tokenize_str(part),
        ("", (len(part), len(part))),
      ]:
        words[word] += 1
        if gap := part[end:begin].strip():  # Pre-tokenizers may drop more than spaces.
          yield gap, len(gap), True
        end = stop
  to_bytes = piece_reader(settings)
  bpe = model["type"] == "BPE"
  find = _of_bpe(model) if bpe else _of_model(tokenizer, model)
  for word, count in words.items():
    for part in find(word) if word else ():
      shown = to_bytes(part).decode(errors="replace")
      yield shown.strip() or shown, count * len(part), bpe and not model.get("unk_token")


def _of_bpe(model: Mapping[str, Any]) -> Callable[[str], Iterator[str]]:
  """Returns a function that yields the parts of a word for which BPE has no symbol."""
  vocab = model["vocab"]
  prefix = model.get("continuing_subword_prefix") or ""
  suffix = model.get("end_of_word_suffix") or ""

  def find(word):
    if model.get("ignore_merges") and word in vocab:
      return
    for known, run in itertools.groupby(enumerate(word), lambda item: is_known(word, *item)):
      if not known:
        yield "".join(character for _, character in run)

  def is_known(word, i, character):
    symbol = (prefix if i else "") + character + (suffix if i == len(word) - 1 else "")
    spelt = model.get("byte_fallback") and all(
      f"<0x{byte:02X}>" in vocab for byte in symbol.encode()
    )
    return symbol in vocab or spelt

  return find


def _of_model(tokenizer: Any, model: Mapping[str, Any]) -> Callable[[str], Iterator[str]]:
  """Returns a function that yields the parts of a word that become the unknown token."""
  unknown = model.get("unk_id")
  if unknown is None:
    unknown = tokenizer.token_to_id(model.get("unk_token") or "")

  def find(word):
    content = word.encode()
    for token in tokenizer.model.tokenize(word):
      if token.id == unknown:
        begin, end = token.offsets
        yield content[begin:end].decode()

  return find
