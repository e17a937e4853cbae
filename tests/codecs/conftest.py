"""The vocabularies of all kinds, as SeqIO has them, and texts that are hard to encode."""

import numpy as np
import pytest
import seqio

from t5x_style.data.tokenizers import huggingface_tokenizers, vocabularies

HARD = [
  "",
  " ",
  "  two  spaces \t\n\n and\rlines\r\n",
  "The quick brown fox jumps over 12345 lazy dogs.",
  "def f(x):\n  return [MASK] + '</s> <mask> <s> <|endoftext|> <pad> [SEP] <unk>'\n",
  "<extra_id_0> a<extra_id_0>\u2581<extra_id_1> [S]x[R] [PRE]",
  "ÀÉ e\u0301 ﬁ ① 漢字 한글 ไทย 🙂🏽 \U0010ffff \ud7ff naïve",
  "\u2581\u2581 a\u2581b \ue000 \ufffd\ufffe \x00\x01\x7f\u200b\ufeff",
  "Donaudampfschifffahrtsgesellschaftskapitän" * 20,
]


@pytest.fixture(scope="session")
def seqio_vocabularies(tmp_path_factory):
  """{name: a SeqIO vocabulary}, of every kind and with every way to have special tokens."""
  tokenizer_files = pytest.importorskip("tests.tokenizer_files")
  shipped = vocabularies.sentencepiece()
  found = {
    "shipped": shipped,
    "borrowed": vocabularies.sentencepiece(extra_ids=10, specials_from_extra_ids=("[A]", "[B]")),
    "bytes": vocabularies.byte_vocabulary(12, ("[MASK]",)),
    "seqio": seqio.SentencePieceVocabulary(shipped.sentencepiece_model_file, 7),
    "seqio bytes": seqio.ByteVocabulary(5),
  }
  for kind, make in tokenizer_files.KINDS.items():
    path = make(tmp_path_factory.mktemp(kind))
    specials = () if kind in ("wordpiece", "unigram") else ("[X]",)
    found[kind] = huggingface_tokenizers.hf_tokenizer(path, 3 * len(specials), specials)
  return found


@pytest.fixture
def model_ids_of():
  """model_ids_of(vocabulary, ids) converts SeqIO's ids as the batches of a run are converted."""

  def convert(vocabulary, ids):
    numbers = getattr(vocabulary, "model_ids", None)
    return list(ids) if numbers is None else np.asarray(numbers)[np.asarray(ids, int)].tolist()

  return convert
