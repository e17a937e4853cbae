"""The shipped vocabulary gives back every text; special tokens, sentinels, mistakes with files."""

import functools
import io
import pickle
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import sentencepiece as spm
import seqio
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from t5x_style.data.corpora import python_stdlib
from t5x_style.data.tokenizers import vocabularies
from t5x_style.errors import UserError

TRICKY = (
  "",
  " ",
  "\n",
  "\tif x:\r\n\t\treturn  1\n" + " " * 60 + "# deep\n",
  "[MASK] [CLS] </s> <pad> <unk> <0x41> <extra_id_0> \u2581<extra_id_0> [S]",
  "\u2581\u2581 a\u2581b \ue000\ue001 \ufffd\ufffe \u2585 \x00\x01\x7f\u200b\ufeff",
  "ÀÉ e\u0301 ﬁ ① 漢字 한글 🙂🏽 \U0010ffff \ud7ff",
)


@pytest.fixture(scope="module")
def vocabulary():
  return vocabularies.sentencepiece()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
  """Trains a small model with options of its own: SentencePiece's defaults are spaces as ▁, one of
  them in front of the text, no bytes, normalisation."""

  def train(**options):
    path = tmp_path_factory.mktemp("models") / "foreign.model"
    content = io.BytesIO()
    options = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "vocab_size": 60} | options
    text = ["Thank you for inviting me to your party last week."] * 20
    spm.SentencePieceTrainer.train(
      sentence_iterator=iter(text),
      model_writer=content,
      hard_vocab_limit=False,
      minloglevel=2,
      **options,
    )
    path.write_bytes(content.getvalue())
    return str(path)

  return train


@functools.cache
def counts_of(file):
  return vocabularies.token_bytes(vocabularies.sentencepiece(file))


def round_trips(vocabulary, text):
  ids = vocabulary.encode(text)
  assert vocabulary.decode(ids) == text
  ids_tf = vocabulary.encode_tf(tf.constant(text))
  assert vocabulary.decode_tf(ids_tf).numpy().decode() == text
  assert vocabulary.decode(ids_tf.numpy().tolist()) == text
  assert vocabularies.decode_visible(vocabulary, ids) == text
  size = len(text.encode())
  counts = counts_of(vocabulary.sentencepiece_model_file)
  assert counts[ids].sum() == counts[ids_tf.numpy()].sum() == size
  marked = set(np.flatnonzero(counts == 0))
  assert not marked & set(ids) and not marked & set(ids_tf.numpy().tolist())


def test_sizes_and_ids(vocabulary):
  assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id) == (0, 1, 2)
  assert vocabulary.vocab_size == 8320 and vocabulary.extra_ids == 128
  assert [vocabularies.special_id(vocabulary, t) for t in vocabularies.SPECIAL_TOKENS] == list(
    range(3, 12)
  )
  assert vocabularies.sentinel_id(vocabulary, 0) == 8319
  assert vocabularies.sentinel_ids(vocabulary).tolist() == list(range(8319, 8191, -1))
  assert vocabulary.tokenizer.IdToPiece(8319) == "\u2581<extra_id_0>"  # SeqIO counts them the same


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_texts_come_back(vocabulary, text):
  round_trips(vocabulary, text)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=80))
def test_arbitrary_texts_come_back(text):
  round_trips(vocabularies.sentencepiece(), text)


@settings(max_examples=60, deadline=None)
@given(st.text(" \t\r\n\u2581ab.=(0", max_size=120))
def test_white_space_comes_back(text):
  round_trips(vocabularies.sentencepiece(), text)


def stdlib_texts():
  for path in sorted(python_stdlib._paths(python_stdlib.folder())):
    try:
      yield path, (Path(sysconfig.get_path("stdlib")) / path).read_bytes().decode()
    except UnicodeDecodeError:
      continue


def test_files_of_the_standard_library_come_back(vocabulary):
  texts = list(stdlib_texts())[::100]
  assert len(texts) > 10
  for _, text in texts:
    round_trips(vocabulary, text)


@pytest.mark.slow
def test_every_file_of_the_standard_library_comes_back(vocabulary):
  tokenizer = vocabulary.tf_tokenizer
  for path, text in stdlib_texts():
    assert vocabulary.decode(vocabulary.encode(text)) == text, path
    assert tokenizer.detokenize(tokenizer.tokenize(text)).numpy().decode() == text, path


@pytest.mark.parametrize("columns", [2, 3, 5, 13, 20, 31, 47, 48])
def test_indentation_is_one_piece_in_both_tokenizers(vocabulary, columns):
  text = f"\n{' ' * columns}"
  pieces = [vocabulary.tokenizer.IdToPiece(i) for i in vocabulary.encode(text)]
  assert pieces == ["\n", " " * columns]
  assert vocabulary.encode_tf(text).numpy().tolist() == vocabulary.encode(text)


def test_bytes_of_tokens(vocabulary):
  counts = vocabularies.token_bytes(vocabulary)
  assert counts.dtype == np.int32 and counts.shape == (8320,)
  assert not counts[:12].any() and not counts[8192:].any()
  assert (counts[12:268] == 1).all()
  assert (counts[268:8192] > 0).all()


def test_decode_visible_shows_everything_but_padding(vocabulary):
  mask = vocabularies.special_id(vocabulary, "[MASK]")
  ids = [*vocabulary.encode("def "), 8319, *vocabulary.encode("(x):"), mask, 8192, 1, 0, 0]
  shown = vocabularies.decode_visible(vocabulary, np.array(ids))
  assert shown == "def <extra_id_0>(x):[MASK]<extra_id_127></s>"
  assert vocabularies.encode_visible(vocabulary, shown) == ids[:-2]
  assert vocabularies.decode_visible(vocabulary, [2, 8320, 99_999]) == "<unk><unk><unk>"
  half = vocabularies.decode_visible(vocabulary, vocabulary.encode("🙂")[:2])
  assert "\ufffd" in half


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 8319), max_size=30))
def test_encode_visible_reads_what_decode_visible_shows(ids):
  vocabulary = vocabularies.sentencepiece()
  shown = vocabularies.decode_visible(vocabulary, ids)
  if "\ufffd" not in shown:
    assert (
      vocabularies.decode_visible(vocabulary, vocabularies.encode_visible(vocabulary, shown))
      == shown
    )


def test_a_model_with_a_space_in_front(foreign):
  vocabulary = vocabularies.sentencepiece(foreign(), extra_ids=10)
  ids = vocabulary.encode("Thank you")
  assert vocabularies.decode_visible(vocabulary, [*ids, vocabulary.vocab_size - 1]) == (
    " Thank you<extra_id_0>"
  )
  assert vocabularies.token_bytes(vocabulary)[ids].sum() == len(" Thank you")
  assert vocabularies.token_bytes(vocabulary)[[0, 1, 2]].sum() == 0


def test_symbols_by_hand_are_special_where_they_look_so(foreign):
  path = foreign(user_defined_symbols=["[MASK]", "<sep>", "party"], vocab_size=64)
  vocabulary = vocabularies.sentencepiece(path)
  for token in ("[MASK]", "<sep>"):
    i = vocabularies.special_id(vocabulary, token)
    assert vocabulary.tokenizer.IdToPiece(i) == token
    assert vocabularies.token_bytes(vocabulary)[i] == 0
  party = vocabulary.tokenizer.PieceToId("party")
  assert vocabularies.token_bytes(vocabulary)[party] == 5


def with_pieces(path, *pieces):
  """Appends user-defined pieces to a model file."""
  model = sentencepiece_model_pb2.ModelProto.FromString(Path(path).read_bytes())
  for piece in pieces:
    model.pieces.add(piece=piece, type=model.SentencePiece.USER_DEFINED)
  Path(path).write_bytes(model.SerializeToString())
  return path


@pytest.mark.parametrize("space", ["\u2581", ""])
def test_sentinels_that_are_the_models_own(foreign, space):
  """As mT5's: the last pieces; none are appended."""
  path = with_pieces(foreign(), *(f"{space}<extra_id_{k}>" for k in (2, 1, 0)))
  with pytest.raises(ValueError, match="3 sentinels of its own, .* set EXTRA_IDS = 0"):
    vocabularies.sentencepiece(path)
  vocabulary = vocabularies.sentencepiece(path, extra_ids=0)
  size = vocabulary.vocab_size
  assert vocabulary.tokenizer.IdToPiece(size - 1) == f"{space}<extra_id_0>"
  assert vocabulary.extra_ids == 3
  assert vocabularies.sentinel_ids(vocabulary).tolist() == [size - 1, size - 2, size - 3]
  assert vocabularies.decode_visible(vocabulary, [size - 1, size - 3]) == "<extra_id_0><extra_id_2>"
  assert not vocabularies.token_bytes(vocabulary)[-3:].any()
  assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary
  borrowed = vocabularies.sentencepiece(path, 0, ("[MASK]",))
  assert vocabularies.special_id(borrowed, "[MASK]") == size - 3 and borrowed.extra_ids == 2


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("kind", ["appended", "own"])
def test_no_text_has_a_special_token(foreign, kind, model_type):
  """Whatever is written in it, and wherever the token is defined."""
  path = with_pieces(foreign(model_type=model_type), "[MASK]", "<n>")
  if kind == "own":
    with_pieces(path, "\u2581<extra_id_1>", "\u2581<extra_id_0>")
  vocabulary = vocabularies.sentencepiece(path, 0 if kind == "own" else 2)
  text = "week </s> <pad>[MASK] <unk> <extra_id_0> your<extra_id_1> \u2581<extra_id_1>"
  special = {0, 1, vocabularies.special_id(vocabulary, "[MASK]")}
  special |= {*vocabularies.sentinel_ids(vocabulary).tolist()}
  for ids in (vocabulary.encode(text), vocabulary.encode_tf(text).numpy().tolist()):
    assert len(ids) > 20 and not special & {*ids}
  # A symbol of the author's own is what SentencePiece says it is, one piece of the text.
  assert vocabulary.tokenizer.PieceToId("<n>") in vocabulary.encode("your<n>week")


def test_a_model_of_words_is_refused(foreign):
  """SentencePiece fails at a text that has the name of a special token as a word."""
  with pytest.raises(UserError, match="whole words .*--model_type=unigram or bpe"):
    vocabularies.sentencepiece(foreign(model_type="word", vocab_size=12))


def test_a_special_token_that_is_absent(foreign, vocabulary):
  path = foreign()
  with pytest.raises(ValueError, match="foreign.model has no special token '\\[MASK\\]'") as raised:
    vocabularies.special_id(vocabularies.sentencepiece(path), "[MASK]")
  for advice in (
    "python_stdlib.model",
    "launch.tokenizer",
    "specials_from_extra_ids = ('[MASK]',)",
  ):
    assert advice in str(raised.value)
  with pytest.raises(ValueError, match="'[NLU]'".replace("[", "\\[")):
    vocabularies.special_id(vocabulary, "[NLU]")
  # An ordinary piece is not a special token, and a sentinel has its own function.
  for token in (" self", "\u2581<extra_id_0>"):
    with pytest.raises(ValueError, match="no special token"):
      vocabularies.special_id(vocabulary, token)


@pytest.mark.parametrize("kind", ["sentencepiece", "bytes"])
def test_special_tokens_from_the_extra_ids(foreign, kind):
  if kind == "bytes":
    vocabulary = vocabularies.byte_vocabulary(10, ("[CLS]", "[MASK]"))
    size = 269
  else:
    vocabulary = vocabularies.sentencepiece(foreign(), 10, ("[CLS]", "[MASK]"))
    size = vocabulary.tokenizer.GetPieceSize()
  assert vocabulary.vocab_size == size
  assert vocabulary.extra_ids == 8
  assert vocabularies.special_id(vocabulary, "[CLS]") == size - 10
  assert vocabularies.special_id(vocabulary, "[MASK]") == size - 9
  assert vocabularies.sentinel_ids(vocabulary).tolist() == list(range(size - 1, size - 9, -1))
  assert not vocabularies.token_bytes(vocabulary)[-10:].any()
  assert vocabularies.decode_visible(vocabulary, [size - 9, size - 8, size - 1]) == (
    "[MASK]<extra_id_7><extra_id_0>"
  )
  assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary
  assert vocabularies.describe(vocabulary)["specials_from_extra_ids"] == ["[CLS]", "[MASK]"]
  with pytest.raises(ValueError, match="has no special token '\\[SEP\\]'.*'\\[MASK\\]', '\\[SEP"):
    vocabularies.special_id(vocabulary, "[SEP]")
  with pytest.raises(ValueError, match="<extra_id_8> does not exist.*8 sentinels"):
    vocabularies.sentinel_id(vocabulary, 8)


def test_borrowing_mistakes():
  with pytest.raises(ValueError, match="takes 2 extra ids, but there are 1"):
    vocabularies.byte_vocabulary(1, ("[CLS]", "[MASK]"))
  with pytest.raises(ValueError, match="write a tuple"):
    vocabularies.byte_vocabulary(1, "[CLS]")


def test_byte_vocabulary():
  vocabulary = vocabularies.byte_vocabulary()
  assert vocabulary.vocab_size == 387
  text = "é [MASK] <extra_id_0>\n"
  ids = vocabulary.encode(text)
  assert vocabularies.decode_visible(vocabulary, [*ids, 386, 1, 0]) == f"{text}<extra_id_0></s>"
  assert vocabularies.token_bytes(vocabulary)[ids].sum() == len(text.encode())
  assert vocabularies.token_bytes(vocabulary).sum() == 256


def test_no_bytes_for_what_is_not_known():
  with pytest.raises(ValueError, match="PassThroughVocabulary"):
    vocabularies.token_bytes(seqio.PassThroughVocabulary(10))


def test_describe_does_not_depend_on_the_path(vocabulary, tmp_path):
  copy = tmp_path / "python_stdlib.model"
  copy.write_bytes(Path(vocabulary.sentencepiece_model_file).read_bytes())
  moved = vocabularies.sentencepiece(str(copy))
  assert vocabularies.describe(moved) == vocabularies.describe(vocabulary)
  other = vocabularies.sentencepiece(extra_ids=100)
  assert vocabularies.describe(other) != vocabularies.describe(vocabulary)


def test_a_missing_file(tmp_path):
  for path in ("python_stdlip.model", str(tmp_path / "x.model"), str(tmp_path)):
    with pytest.raises(UserError, match="VOCABULARY_FILE.*python_stdlib.model") as raised:
      vocabularies.sentencepiece(path)
    assert path in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"not a model", bytes(range(256))])
def test_not_a_model(tmp_path, content):
  file = tmp_path / "spiece.vocab"
  file.write_bytes(content)
  with pytest.raises(ValueError, match="spiece.vocab.*is not a SentencePiece model"):
    vocabularies.sentencepiece(str(file))


def test_other_conventions_are_refused(foreign):
  path = foreign(pad_id=-1, unk_id=0, bos_id=1, eos_id=2)
  with pytest.raises(ValueError, match="padding.*absent instead of 0.*--pad_id=0"):
    vocabularies.sentencepiece(path)
