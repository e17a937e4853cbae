"""Trains SentencePiece vocabularies that restore every text exactly, code included."""

from __future__ import annotations

import dataclasses
import io
import tempfile
from collections.abc import Iterable, Iterator

import sentencepiece as spm
import seqio
import tensorflow as tf
from sentencepiece import sentencepiece_model_pb2

from t5x_style.data import iterator
from t5x_style.data.tokenizers.special_tokens import SPECIAL_TOKENS
from t5x_style.errors import UserError

_ORDINARY = sentencepiece_model_pb2.ModelProto.SentencePiece.NORMAL
_LONGEST_RUN = 48  # spaces; code is seldom indented or aligned deeper
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
    documents: training needs about 15 times their size of memory. The same documents give the same
      model.
    vocab_size: total number of pieces.

  Raises:
    UserError: the text is too small for so many pieces, or vocab_size is below the fixed pieces.
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
    raise UserError(
      f"no vocabulary of {vocab_size} pieces can be trained on this text: {error}. Give more text "
      "(--input) or another --vocab_size."
    ) from error
  return _finish(model.getvalue())


@dataclasses.dataclass
class Fit:
  """How a vocabulary encodes some documents; `exact` of them are restored unchanged."""

  documents: int = 0
  text_bytes: int = 0
  tokens: int = 0
  exact: int = 0

  @property
  def bytes_per_token(self) -> float:
    return self.text_bytes / max(1, self.tokens)


def measure(vocabulary: seqio.Vocabulary, documents: Iterable[str]) -> Fit:
  """Encodes and decodes every document and returns the counts."""
  fit = Fit()
  for document in documents:
    ids = vocabulary.encode(document)
    fit.documents += 1
    fit.text_bytes += len(document.encode())
    fit.tokens += len(ids)
    fit.exact += vocabulary.decode(ids) == document
  return fit


def texts(source: seqio.DataSource, split: str, most_bytes: int) -> Iterator[str]:
  """Yields shuffled documents of a source of {"text": string}, about `most_bytes` in total."""
  return _texts(source.get_dataset(split, shuffle=True, seed=0), ("text",), most_bytes)


def task_texts(task: seqio.Task, split: str, most_bytes: int) -> Iterator[str]:
  """Yields the texts that the tokeniser of a SeqIO task gets, about `most_bytes` in total."""
  return _texts(*untokenized(task, split, shuffle=True), most_bytes)


def untokenized(
  task: seqio.Task, split: str, *, shuffle: bool
) -> tuple[tf.data.Dataset, tuple[str, ...]]:
  """Returns the examples that the tokeniser of a SeqIO task gets, and the names of its texts.

  Raises:
    UserError: the task has no tokeniser.
  """
  steps = list(task.preprocessors)
  tokenizers = (seqio.preprocessors.tokenize, seqio.preprocessors.tokenize_and_append_eos)
  places = [i for i, s in enumerate(steps) if getattr(s, "func", s) in tokenizers]
  if not places:
    raise UserError(
      f"the task {task.name} has no step seqio.preprocessors.tokenize, before which its text could "
      "be taken; give the text itself with --input or --gin_file."
    )
  text = seqio.Feature(seqio.PassThroughVocabulary(0), add_eos=False, dtype=tf.string, rank=0)
  features = dict.fromkeys(task.output_features, text)
  before = task.replace(preprocessors=steps[: places[0]], output_features=features)
  dataset = before.get_dataset(None, split, shuffle=shuffle, seed=0, trim_output_features=False)
  return dataset, tuple(features)


def _texts(dataset: tf.data.Dataset, features: tuple[str, ...], most_bytes: int) -> Iterator[str]:
  size = 0
  for example in iterator.arrays(dataset):
    for content in (example[name] for name in features if example.get(name)):
      size += len(content)
      yield content.decode("utf-8", errors="replace")
    if size >= most_bytes:
      return


def _chunks(documents: Iterable[str]) -> Iterator[str]:
  """Yields parts of documents, cut at the ends of lines where lines are not too long."""
  for document in documents:
    chunk = ""
    for line in document.splitlines(keepends=True):
      if len(chunk) + len(line) > _CHUNK and chunk:
        yield chunk
        chunk = ""
      for start in range(0, len(line) - _CHUNK, _CHUNK):
        yield line[start : start + _CHUNK]
      chunk += line[-(len(line) % _CHUNK or _CHUNK) :] if len(line) > _CHUNK else line
    if chunk:
      yield chunk


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
