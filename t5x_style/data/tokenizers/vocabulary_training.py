"""Trains SentencePiece vocabularies that restore every text exactly, code included."""

from __future__ import annotations

import dataclasses
import heapq
import io
import random
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2

from t5x_style.codecs.sentencepiece_models import SPECIAL_TOKENS
from t5x_style.data.tokenizers.vocabulary import Vocabulary
from t5x_style.errors import UserError

_ORDINARY = sentencepiece_model_pb2.ModelProto.SentencePiece.NORMAL
_LONGEST_RUN = 48  # spaces; code is seldom indented or aligned deeper
_BLOCK = 2**20  # characters whose lines are found at once
_CHUNK = 4000  # characters; the trainer expects sentences, and documents are too long
# Some normalisation rule, whichever; see _finish.
_RULE = ("\ue000", "\ue001")
_THREADS = 4  # the result depends on it: sums are rounded per thread


def train(documents: Iterable[str], vocab_size: int = 8192) -> bytes:
  """Trains a unigram model (Kudo 2018) and returns the content of its .model file.

  Padding is 0, EOS 1, UNK 2, then come the special tokens of the objectives and the 256 bytes,
  which spell what no piece covers, so nothing is unknown. Text is not normalised: spaces, tabs and
  line ends are pieces or bytes like other characters. Each digit is its own piece. Every run of up
  to 48 spaces is one piece, so that indentation has one spelling. Special tokens are control
  pieces: the letters "[MASK]" in a text do not become the token.

  SentencePiece writes a space as U+2581 and decodes every U+2581 as a space. The finished model has
  spaces in its pieces instead, so that U+2581 is restored too.

  Args:
    documents: training needs about 27 times their size of memory; see `sample`. The same documents
      give the same model.
    vocab_size: total number of pieces.

  Raises:
    UserError: the text is too small for this many pieces, or vocab_size is below the fixed pieces.
  """
  model = io.BytesIO()
  try:
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
      print("\t".join(f"{ord(character):X}" for character in _RULE), file=rules, flush=True)
      spm.SentencePieceTrainer.train(
        sentence_iterator=_chunks(documents),
        model_writer=model,
        model_type="unigram",
        vocab_size=vocab_size,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        control_symbols=list(SPECIAL_TOKENS),
        byte_fallback=True,
        character_coverage=0.9999,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_tsv=rules.name,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        max_sentence_length=8 * _CHUNK,
        num_threads=_THREADS,
        minloglevel=2,
      )
  except (RuntimeError, OSError) as error:
    raise UserError(_explained(str(error), vocab_size)) from error
  return _finish(model.getvalue())


def _explained(error: str, vocab_size: int) -> str:
  """Returns an error of SentencePiece in words; most often the text has too few pieces."""
  most = re.search(r"value <= (\d+)", error)
  if most:
    return (
      f"this text is too short for a vocabulary of {vocab_size} pieces. Give more text (--input), "
      f"or --vocab_size={most[1]} at most."
    )
  return (
    f"no vocabulary of {vocab_size} pieces can be trained on this text: {error}. Give more text "
    "(--input) or another --vocab_size."
  )


class Sample(NamedTuple):
  """Parts of documents, in their order.

  Attributes:
    parts: UTF-8 texts of at most 4,000 characters.
    kept_bytes: their size.
    read_bytes: the size of all documents.
  """

  parts: Sequence[bytes]
  kept_bytes: int
  read_bytes: int

  def texts(self) -> Iterator[str]:
    """Yields the parts as strings; `train` makes the same model of them as of whole documents."""
    return (part.decode() for part in self.parts)


def sample(documents: Iterable[str], most_bytes: int) -> Sample:
  """Reads all documents and keeps a random sample of their parts, of at most `most_bytes`.

  Each part gets a random number, and those with the smallest ones are kept (Efraimidis and Spirakis
  2006), so each is as likely to be kept as any other, wherever it is. The numbers follow from a
  fixed seed: the same documents in the same order give the same sample. All is kept if there is no
  more than `most_bytes`.
  """
  draw = random.Random(0).random
  kept: list[tuple[float, int, bytes]] = []  # a heap: the largest number first, as its negative
  kept_bytes = read_bytes = 0
  limit = 1.0  # above the largest number that is still kept
  for number, text in enumerate(_chunks(documents)):
    part = text.encode()
    read_bytes += len(part)
    if (key := draw()) >= limit:
      continue
    heapq.heappush(kept, (-key, number, part))
    kept_bytes += len(part)
    while kept_bytes > most_bytes:
      dropped, _, last = heapq.heappop(kept)
      limit, kept_bytes = -dropped, kept_bytes - len(last)
  parts = [part for _, _, part in sorted(kept, key=lambda item: item[1])]
  return Sample(parts, kept_bytes, read_bytes)


@dataclasses.dataclass
class EncodingCounts:
  """How a vocabulary encodes some documents; `exact` of them are restored unchanged."""

  documents: int = 0
  text_bytes: int = 0
  tokens: int = 0
  exact: int = 0

  @property
  def bytes_per_token(self) -> float:
    return self.text_bytes / max(1, self.tokens)


def measure(vocabulary: Vocabulary, documents: Iterable[str]) -> EncodingCounts:
  """Encodes and decodes every document and counts."""
  counts = EncodingCounts()
  for document in documents:
    ids = vocabulary.encode(document)
    counts.documents += 1
    counts.text_bytes += len(document.encode())
    counts.tokens += len(ids)
    counts.exact += vocabulary.decode(ids) == document
  return counts


def _chunks(documents: Iterable[str]) -> Iterator[str]:
  """Yields parts of documents, cut at the ends of lines where lines are not too long."""
  for document in documents:
    chunk = ""
    for line in _lines(document):
      if len(chunk) + len(line) > _CHUNK and chunk:
        yield chunk
        chunk = ""
      for start in range(0, len(line) - _CHUNK, _CHUNK):
        yield line[start : start + _CHUNK]
      chunk += line[-(len(line) % _CHUNK or _CHUNK) :] if len(line) > _CHUNK else line
    if chunk:
      yield chunk


def _lines(document: str) -> Iterator[str]:
  """Yields what str.splitlines(keepends=True) returns, without a list of all lines."""
  start = 0
  while start < len(document):
    end = document.find("\n", start + _BLOCK) + 1 or len(document)
    yield from document[start:end].splitlines(keepends=True)
    start = end


def _finish(content: bytes) -> bytes:
  """Gives a trained model spaces in its pieces, runs of spaces, and no normalisation."""
  model = sentencepiece_model_pb2.ModelProto.FromString(content)
  for piece in model.pieces:
    if piece.type == _ORDINARY:
      piece.piece = piece.piece.replace("\u2581", " ")
  _add_runs_of_spaces(model)
  spec = model.normalizer_spec
  spec.escape_whitespaces = False
  # For a model without rules tensorflow_text prints a line wherever it is used. The trainer refuses
  # rules that change nothing, so the rule is made to change nothing here.
  changed, kept = (character.encode() for character in reversed(_RULE))
  spec.precompiled_charsmap = spec.precompiled_charsmap.replace(changed, kept)
  spec.name = "identity"
  spec.ClearField("normalization_rule_tsv")
  return model.SerializeToString(deterministic=True)


def _add_runs_of_spaces(model: sentencepiece_model_pb2.ModelProto) -> None:
  """Replaces the least likely pieces by those runs of spaces that training did not choose.

  Without them a run is made of two shorter ones, in an order that depends on the release of
  SentencePiece. The score of a run is slightly better than that of any two shorter ones.
  """
  ordinary = [piece for piece in model.pieces if piece.type == _ORDINARY]
  learned = {len(piece.piece): piece for piece in ordinary if not piece.piece.strip(" ")}
  longest = min(_LONGEST_RUN, len(model.pieces) // 128)
  unlikely = (p for p in reversed(ordinary) if len(p.piece) > 1 and p.piece.strip(" "))
  scores = {1: learned[1].score if 1 in learned else ordinary[-1].score}
  for n in range(2, longest + 1):
    piece = learned.get(n) or next(unlikely)
    in_parts = max(scores[k] + scores[n - k] for k in range(1, n // 2 + 1))
    scores[n] = max(piece.score, in_parts + 0.5) if n in learned else in_parts + 0.5
    piece.piece, piece.score = " " * n, scores[n]
