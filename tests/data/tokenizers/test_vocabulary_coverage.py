"""Unknown and dropped text is measured, described, and warned of."""

import io
import json

import pytest
import sentencepiece
import seqio

from t5x_style.data import loader
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.tokenizers import huggingface_tokenizers, vocabularies, vocabulary_coverage

tokenizers = pytest.importorskip("tokenizers")
ENGLISH = [f"line number {i} of this small corpus has some ordinary words in it" for i in range(99)]
RUSSIAN = "Привет мир 5 words"  # 9 of its 18 characters


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Trains a SentencePiece model on English."""

  def train(**options):
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(ENGLISH),
      model_writer=content,
      hard_vocab_limit=False,
      minloglevel=2,
      **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "vocab_size": 70} | options,
    )
    path = tmp_path_factory.mktemp("models") / "english.model"
    path.write_bytes(content.getvalue())
    return vocabularies.sentencepiece(str(path))

  return train


@pytest.fixture
def huggingface(tmp_path):
  """Opens a tokenizer that was trained on English."""

  def train(model, trainer, pre_tokenizer, normalizer=None, change=None, **settings):
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
      tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(ENGLISH, trainer)
    if change:
      change(tokenizer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"} | settings))
    return huggingface_tokenizers.hf_tokenizer(str(tmp_path))

  return train


models, trainers = tokenizers.models, tokenizers.trainers
splitting = tokenizers.pre_tokenizers
WORDS = {"vocab_size": 200, "show_progress": False, "special_tokens": ["</s>", "<unk>"]}


def test_sentencepiece(trained):
  coverage = vocabulary_coverage.measure(trained(), [RUSSIAN, "words"])
  assert (coverage.total, coverage.unknown, coverage.documents) == (23, 9, 2)
  assert coverage.examples == ["Привет", "мир"] and not coverage.dropped
  assert coverage.remark() == (
    "39.1% of the text (characters of 2 documents) is not in the vocabulary and becomes the "
    "unknown token, most often 'Привет', 'мир'"
  )
  for advice in ("english.model", "byte fallback", "launch.tokenizer"):
    assert advice in coverage.warning("english.model")


def test_normalisation_loses_nothing(trained, huggingface):
  """Full-width letters, capitals and spaces are normalised to known ones."""
  text = "  ｌｉｎｅ   number  "
  assert vocabulary_coverage.measure(trained(), [text]).share == 0
  bert = huggingface(
    models.WordPiece(unk_token="[UNK]"),
    trainers.WordPieceTrainer(**WORDS | {"special_tokens": ["</s>", "[UNK]"]}),
    splitting.BertPreTokenizer(),
    tokenizers.normalizers.BertNormalizer(),
  )
  coverage = vocabulary_coverage.measure(bert, ["LINE\x00 Numbér\u200b \t of", "the мир"])
  assert (coverage.unknown, coverage.examples, coverage.dropped) == (3, ["мир"], 0)


def test_bytes_cover_everything(trained, vocabulary):
  fallback = trained(byte_fallback=True, vocab_size=330)
  for covering in (fallback, vocabulary, vocabularies.byte_vocabulary()):
    coverage = vocabulary_coverage.measure(covering, [RUSSIAN])
    assert coverage.share == 0 and not coverage.remark() and not coverage.warning("x")
  assert vocabulary_coverage.measure(seqio.PassThroughVocabulary(9), [RUSSIAN]) is None


@pytest.mark.parametrize("unknown", [None, "<unk>"])
def test_bpe(huggingface, unknown):
  bpe = huggingface(
    models.BPE(unk_token=unknown), trainers.BpeTrainer(**WORDS), splitting.Whitespace()
  )
  coverage = vocabulary_coverage.measure(bpe, [RUSSIAN])
  assert (coverage.total, coverage.unknown + coverage.dropped) == (18, 9)
  assert (coverage.dropped == 9) == (unknown is None)
  assert coverage.examples == ["Привет", "мир"]
  assert ("is dropped" in coverage.remark()) == (unknown is None)


def test_bpe_of_bytes_without_all_of_them(huggingface):
  """Bytes that the training text did not have are dropped."""
  some = huggingface(models.BPE(), trainers.BpeTrainer(**WORDS), splitting.ByteLevel())
  coverage = vocabulary_coverage.measure(some, [RUSSIAN])
  assert (coverage.unit, coverage.total, coverage.dropped) == ("bytes", 27, 18)
  assert coverage.examples == ["Привет", "мир"]
  every = WORDS | {"initial_alphabet": splitting.ByteLevel.alphabet(), "vocab_size": 300}
  whole = huggingface(models.BPE(), trainers.BpeTrainer(**every), splitting.ByteLevel())
  assert vocabulary_coverage.measure(whole, [RUSSIAN]).share == 0


def test_unigram_and_words(huggingface):
  unigram = huggingface(
    models.Unigram(),
    trainers.UnigramTrainer(**WORDS | {"vocab_size": 70}, unk_token="<unk>"),
    splitting.Metaspace(),
    change=lambda tokenizer: tokenizer.add_tokens(["мир"]),  # An added token is known.
  )
  coverage = vocabulary_coverage.measure(unigram, [RUSSIAN])
  assert (coverage.unknown, coverage.examples) == (6, ["Привет"])
  assert vocabulary_coverage.measure(unigram, ["line\nof\nline"]).examples == ["\n"]
  words = huggingface(
    models.WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer(**WORDS), splitting.Whitespace()
  )
  coverage = vocabulary_coverage.measure(words, ["of other words"])
  assert (coverage.unknown, coverage.examples) == (5, ["other"])


def test_what_a_pre_tokenizer_drops(huggingface):
  """BPE drops characters even if only tokenizer_config.json names an unknown token."""
  signs = splitting.Sequence([splitting.Whitespace(), splitting.Punctuation(behavior="removed")])
  bpe = huggingface(models.BPE(), trainers.BpeTrainer(**WORDS), signs, unk_token="<unk>")
  assert bpe.unk_id is not None
  coverage = vocabulary_coverage.measure(bpe, ["some (ordinary) words. мир"])
  assert (coverage.unknown, coverage.dropped) == (0, 6)
  assert {*coverage.examples} == {"(", ")", ".", "мир"}


def test_dropped_text_is_always_warned_of(huggingface):
  """Unknown text is warned of from 1 % on, text that vanishes from the first character on."""
  text = "of ordinary words " * 200 + "ä"
  silent = huggingface(models.BPE(), trainers.BpeTrainer(**WORDS), splitting.Whitespace())
  coverage = vocabulary_coverage.measure(silent, [text])
  assert (coverage.dropped, coverage.dropped_share) == (1, 1 / 3601)
  assert coverage.warning("x").startswith("less than 0.1% of the text (characters of 1 documents)")
  honest = huggingface(
    models.BPE(unk_token="<unk>"), trainers.BpeTrainer(**WORDS), splitting.Whitespace()
  )
  coverage = vocabulary_coverage.measure(honest, [text])
  assert (coverage.unknown, coverage.dropped) == (1, 0) and not coverage.warning("x")


def load(corpus, vocabulary, **changes):
  return loader.load(
    *("decoder_only", 4, 0),
    **{"corpus": corpus, "vocabulary": vocabulary, "objective": CausalLM()}
    | {"feature_lengths": {"targets": 16}, "shuffle_buffer_size": 1}
    | changes,
  )


def test_a_run_begins_with_a_warning(trained, new_corpus, tmp_path, recwarn):
  """The middle of a long document counts as well."""
  english = " ".join(ENGLISH[:50])
  long = english + RUSSIAN * 300 + english
  corpus = new_corpus(tmp_path, [*(x.encode() for x in ENGLISH), long.encode()], [b""])
  with pytest.warns(UserWarning, match="of the text .* becomes the unknown token, most often") as w:
    dataset = load(corpus, trained())
  assert "english.model" in str(w[0].message)
  assert w[0].filename.endswith("t5x_style/data/stream.py")  # Commands show those of the package.
  assert dataset.coverage.documents == 100 and 0.05 < dataset.coverage.share < 0.3


def test_no_warning_where_little_is_unknown(trained, new_corpus, tmp_path, recwarn):
  corpus = new_corpus(tmp_path, [*(x.encode() for x in ENGLISH), "ä".encode()], [b""])
  dataset = load(corpus, trained())
  assert 0 < dataset.coverage.share < 0.01
  assert not [w for w in recwarn if "unknown token" in str(w.message)]
